"""Section ``volume``: tile volumes to OME-Zarr, and the focus plane."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from opticstream_smk.config.section import Section
from opticstream_smk.errors import ConfigError
from opticstream_smk.io.ome_zarr import ZarrOptions

VolumeModality = Literal["dBI", "R3D", "O3D"]
Window = tuple[float, float]


class VolumeSection(Section):
    """How the volumes of the tiles become one volume of the mosaic."""

    enabled: bool = Field(
        default=True,
        description="Whether volumes are stitched. They never are where tiles have none "
        "(processing.save_volume_outputs: false, or maps of the acquisition host).",
    )
    modalities: tuple[VolumeModality, ...] = Field(
        default=("dBI", "R3D", "O3D"),
        min_length=1,
        description="Volumes that are stitched: intensity, retardance, orientation.",
    )
    depth_px: int = Field(
        default=500, ge=1, le=100_000, description="Depth samples of the stitched volume."
    )
    offset_px: int = Field(
        default=30,
        ge=0,
        le=100_000,
        description="Depth samples of the tile, from its top (and the focus plane), that are left "
        "out above the volume. What lies below the last sample of the tile has the fill value.",
    )
    mask: bool = Field(
        default=True, description="Whether voxels outside the tissue mask have the fill value."
    )
    fill_value: float = Field(default=0.0, description="Value outside tissue and tiles.")
    focus: bool = Field(
        default=True,
        description="Whether tiles are shifted in depth by the focus plane: the bend of the plane "
        "of equal path length, fitted once on the template slice for each acquisition.",
    )
    focus_crop_x_px: int = Field(
        default=15,
        ge=0,
        le=10_000,
        description="First columns (A-lines) of each tile that the fit leaves out, where the "
        "scanner still settles. There must be overlap beyond them.",
    )
    focus_signal_db: float | None = Field(
        default=None,
        description="Tiles with a mean AIP of this and more are fitted. Null: the mask threshold "
        "(where that is `auto`, 60 or for tilted mosaics 55).",
    )
    zarr_version: Literal[2, 3] = Field(
        default=3, description="3 writes NGFF 0.5 in shards, 2 writes NGFF 0.4."
    )
    chunk: tuple[int, ...] = Field(
        default=(64,), description="z, y, x of a chunk, or one even length for all axes."
    )
    shard: tuple[int, ...] | Literal["auto"] | None = Field(
        default="auto",
        description="z, y, x of a shard, or one length; `auto` is 1024. A shard is one file, and "
        "what a killed run need not make again. Null: every chunk is a file.",
    )
    levels: int = Field(
        default=-1,
        ge=-1,
        le=32,
        description="Levels of the pyramid below full resolution; -1: down to one chunk.",
    )
    compressor: Literal["blosc", "zstd", "zlib", "none"] = Field(
        default="blosc", description="Compression of chunks; without loss."
    )
    compressor_opt: dict[str, int | str] = Field(
        default={},
        description="Of blosc: cname, clevel, shuffle, blocksize; of zstd and zlib: level. Empty: "
        "lz4 of level 5, or level 3 and 5.",
    )
    window: dict[VolumeModality, Window] = Field(
        default={"R3D": (0.0, 90.0), "O3D": (-90.0, 90.0)},
        description="Values that viewers show black and white. A modality that is not named: "
        "percentiles 1 and 99.8 of each volume.",
    )
    memory_mb: int = Field(
        default=1100,
        ge=64,
        description="Memory for the blocks of one volume, whatever the mosaic's size; the program "
        "takes some 300 MB more.",
    )

    @field_validator("window")
    @classmethod
    def _windows_rise(cls, value: dict[VolumeModality, Window]) -> dict[VolumeModality, Window]:
        for modality, (black, white) in value.items():
            if black >= white:
                raise ValueError(f"{modality} [{black:g}, {white:g}]: expected black below white")
        return value

    @model_validator(mode="after")
    def _can_be_stored(self) -> "VolumeSection":
        try:
            self.zarr_options()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def zarr_options(self) -> ZarrOptions:
        """How the volumes are stored."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _STORED}
        return ZarrOptions(**values, overwrite=True)


# Named as in `ZarrOptions`.
_STORED = (
    "zarr_version", "chunk", "shard", "levels", "compressor", "compressor_opt", "fill_value",
)  # fmt: skip
