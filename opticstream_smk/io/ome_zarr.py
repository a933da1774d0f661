"""OME-Zarr images: options, pyramids, metadata.

Zarr version 3 carries NGFF 0.5 (sharded), version 2 carries NGFF 0.4. Axes are z, y, x in
micrometers. Chunks are written by `opticstream_smk.io.zarr_chunks`; the file that makes a folder a
Zarr group is written last, so that what is not complete cannot be opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from opticstream_smk.errors import ConfigError
from opticstream_smk.io.atomic import write_json

if TYPE_CHECKING:
    from pathlib import Path

Shape = tuple[int, int, int]
AXES = ("z", "y", "x")
# Where a shard may be as large as is sensible: a few seconds of writing.
_AUTO_SHARD = (1024, 1024, 1024)
_CODEC_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0},
    "zstd": {"level": 3},
    "zlib": {"level": 5},
    "none": {},
}


@dataclass(frozen=True)
class ZarrOptions:
    """How an OME-Zarr is stored.

    Attributes
    ----------
    zarr_version
        3 (NGFF 0.5) or 2 (NGFF 0.4).
    chunk
        z, y, x of a chunk, or one length for all axes; even.
    shard
        z, y, x of a shard (one file), or one length for all; "auto": 1024 with version 3. Rounded
        up to whole chunks. None: every chunk is a file.
    levels
        Levels below the full resolution; -1: until everything fits into one chunk.
    compressor
        blosc, zstd, zlib (gzip in version 3) or none.
    compressor_opt
        Of blosc: cname, clevel, shuffle (noshuffle, shuffle, bitshuffle), blocksize; of the others:
        level.
    fill_value
        Of voxels without a value; chunks of nothing else are not stored.
    overwrite
        Replace what is there.

    Raises
    ------
    ConfigError
        A value is out of range, or asks for what the version does not have.
    """

    zarr_version: Literal[2, 3] = 3
    chunk: Sequence[int] = (64,)
    shard: Sequence[int] | Literal["auto"] | None = "auto"
    levels: int = -1
    compressor: Literal["blosc", "zstd", "zlib", "none"] = "blosc"
    compressor_opt: Mapping[str, Any] = field(default_factory=dict)
    fill_value: float = 0.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.zarr_version not in (2, 3):
            raise ConfigError(f"zarr_version {self.zarr_version}: expected 2 or 3.")
        if any(length < 2 or length % 2 for length in self.chunk_zyx):
            raise ConfigError(
                f"chunk {list(self.chunk)}: expected even numbers of at least 2, so that each "
                "level of the pyramid follows from whole chunks of the one above."
            )
        if self.zarr_version == 2 and self.shard not in ("auto", None):
            raise ConfigError(
                f"shard {self.shard}: Zarr version 2 has no shards. Leave shard out, or set "
                "zarr_version: 3."
            )
        if self.shard not in ("auto", None):
            _three(self.shard, "shard")  # type: ignore[arg-type]
        if self.compressor not in _CODEC_DEFAULTS:
            raise ConfigError(
                f"compressor {self.compressor!r}: expected one of {', '.join(_CODEC_DEFAULTS)}."
            )
        unknown = set(self.compressor_opt) - set(_CODEC_DEFAULTS[self.compressor])
        if unknown:
            raise ConfigError(
                f"compressor_opt {', '.join(sorted(unknown))}: {self.compressor} has "
                f"{', '.join(_CODEC_DEFAULTS[self.compressor]) or 'no options'}."
            )
        if self.levels < -1:
            raise ConfigError(f"levels {self.levels}: expected -1 (automatic), 0 or more.")

    @property
    def ngff_version(self) -> Literal["0.4", "0.5"]:
        """Version of the OME-Zarr specification."""
        return "0.5" if self.zarr_version == 3 else "0.4"

    @property
    def chunk_zyx(self) -> Shape:
        """Chunk, all three axes."""
        return _three(self.chunk, "chunk")

    @property
    def shard_zyx(self) -> Shape | None:
        """Shard in whole chunks, all three axes; None without shards."""
        if self.shard is None or self.zarr_version == 2:
            return None
        shard = _AUTO_SHARD if self.shard == "auto" else _three(self.shard, "shard")
        return whole_chunks(shard, self.chunk_zyx)

    @property
    def codec(self) -> Mapping[str, Any]:
        """Every option of the compressor."""
        return {**_CODEC_DEFAULTS[self.compressor], **self.compressor_opt}


def whole_chunks(shape: Sequence[int], chunk: Sequence[int]) -> Shape:
    """Smallest multiple of a chunk that holds `shape`."""
    z, y, x = (-(-length // size) * size for length, size in zip(shape, chunk, strict=True))
    return z, y, x


@dataclass(frozen=True)
class LevelLayout:
    """One array of a pyramid: what its files hold. `shard` is None where every chunk is a file."""

    shape: Shape
    chunk: Shape
    shard: Shape | None

    @property
    def bytes(self) -> int:
        """Uncompressed size, float32."""
        return 4 * math.prod(self.shape)


def level_shapes(shape: Shape, options: ZarrOptions) -> list[Shape]:
    """Shapes of all levels: each half of the one above, odd last planes dropped, at least 1."""
    count = options.levels
    if count < 0:
        ratio = max(s / c for s, c in zip(shape, options.chunk_zyx, strict=True))
        count = max(0, math.ceil(math.log2(ratio)))
    shapes = [shape]
    for _ in range(count):
        if max(shapes[-1]) == 1:
            break
        z, y, x = (max(1, length // 2) for length in shapes[-1])
        shapes.append((z, y, x))
    return shapes


def create_array(folder: Path, layout: LevelLayout, options: ZarrOptions) -> Any:
    """Write the metadata of a float32 array, and return it opened."""
    import zarr

    options_of_version: dict[str, Any]
    if options.zarr_version == 3:
        options_of_version = {
            "shards": layout.shard,
            "dimension_names": AXES,
            "chunk_key_encoding": {"name": "default", "separator": "/"},
        }
    else:
        options_of_version = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    return zarr.create_array(
        store=str(folder),
        shape=layout.shape,
        dtype="<f4",
        chunks=layout.chunk,
        compressors=_zarr_codec(options),
        fill_value=options.fill_value,
        zarr_format=options.zarr_version,
        overwrite=False,
        **options_of_version,
    )


def _zarr_codec(options: ZarrOptions) -> Any:
    """The compressor as zarr writes it into the metadata; None without one."""
    if options.compressor == "none":
        return None
    if options.zarr_version == 2:
        return compressor(options)
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    codec = dict(options.codec)
    if options.compressor == "blosc":
        return BloscCodec(typesize=4, **codec)
    return ZstdCodec(**codec) if options.compressor == "zstd" else GzipCodec(**codec)


def compressor(options: ZarrOptions) -> Any:
    """What turns the bytes of a chunk into those of its file; None without compression."""
    import numcodecs

    codec = dict(options.codec)
    if options.compressor == "blosc":
        shuffle = ("noshuffle", "shuffle", "bitshuffle").index(codec.pop("shuffle"))
        return numcodecs.Blosc(shuffle=shuffle, **codec)
    if options.compressor == "zstd":
        return numcodecs.Zstd(**codec)
    if options.compressor == "zlib":
        # Version 3 has no zlib; gzip holds the same stream.
        return (numcodecs.GZip if options.zarr_version == 3 else numcodecs.Zlib)(**codec)
    return None


@dataclass(frozen=True)
class ImageMetadata:
    """What an OME-Zarr says about its voxels.

    Attributes
    ----------
    name
        Name of the image.
    voxel_um, origin_um
        z, y, x: size of a voxel, and place of the centre of voxel 0.
    window
        Values shown black and white.
    limits
        Least and greatest value that a window can be set to.
    label
        Name of the channel.
    """

    name: str
    voxel_um: tuple[float, float, float]
    origin_um: tuple[float, float, float]
    window: tuple[float, float]
    limits: tuple[float, float]
    label: str


def write_group(
    folder: Path, shapes: Sequence[Shape], metadata: ImageMetadata, options: ZarrOptions
) -> None:
    """Write the metadata of a pyramid, last of all: it makes the folder an OME-Zarr."""
    image = {
        "multiscales": [
            {
                "name": metadata.name,
                "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in AXES],
                "datasets": [_dataset(level, shapes[0], metadata) for level in range(len(shapes))],
                "type": "mean",
            }
        ],
        "omero": {
            "name": metadata.name,
            "channels": [
                {
                    "label": metadata.label,
                    "color": "FFFFFF",
                    "active": True,
                    "coefficient": 1.0,
                    "family": "linear",
                    "inverted": False,
                    "window": {
                        "start": metadata.window[0],
                        "end": metadata.window[1],
                        "min": metadata.limits[0],
                        "max": metadata.limits[1],
                    },
                }
            ],
            "rdefs": {"model": "greyscale", "defaultT": 0, "defaultZ": 0},
        },
    }
    if options.zarr_version == 3:
        attributes = {"ome": {"version": options.ngff_version, **image}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        write_json(folder / "zarr.json", group)
        return
    image["multiscales"][0]["version"] = options.ngff_version  # type: ignore[index]
    write_json(folder / ".zattrs", image)
    write_json(folder / ".zgroup", {"zarr_format": 2})


def _dataset(level: int, full: Shape, metadata: ImageMetadata) -> dict[str, Any]:
    # An axis is halved until it has one voxel.
    factors = [2 ** min(level, length.bit_length() - 1) for length in full]
    scale = [float(size * factor) for size, factor in zip(metadata.voxel_um, factors, strict=True)]
    # The centre of a voxel of this level is that of the voxels it was made from.
    shift = [
        float(origin + size * (factor - 1) / 2)
        for origin, size, factor in zip(metadata.origin_um, metadata.voxel_um, factors, strict=True)
    ]
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": shift},
        ],
    }


def _three(values: Sequence[int], name: str) -> Shape:
    if len(values) not in (1, 3) or any(int(v) != v or v < 1 for v in values):
        raise ConfigError(
            f"{name} {list(values)}: expected one positive whole number, or three (z, y, x)."
        )
    z, y, x = (int(v) for v in (values if len(values) == 3 else [*values] * 3))
    return z, y, x
