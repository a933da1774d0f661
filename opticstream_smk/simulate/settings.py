"""What a synthetic PS-OCT acquisition is made of: one frozen record of all its parameters."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal, get_args

from opticstream_smk.errors import ConfigError

View = Literal["normal", "tilted", "tiltPos", "tiltNeg"]
_VIEWS: dict[int, tuple[View, ...]] = {
    2: ("normal", "tilted"),
    3: ("normal", "tiltPos", "tiltNeg"),
}

SavingType = Literal[
    "spectral", "spectral_12bit", "complex", "complex_with_spectral", "processed",
    "processed_with_spectral",
]  # fmt: skip
ZOrder = Literal["raw", "flipped"]
# What there is of a raw file that holds three mosaics.
_INTERLEAVED_TYPES = ("spectral", "spectral_12bit")

NIFTI1_LONGEST_AXIS = 32_767  # dim is int16

# Depth bins that the processing drops next to zero delay (toolbox: bins 25..1024 of 2048).
CROPPED_BINS = 24
# A perfect pipeline averages this many samples from the surface down (toolbox window, depth 80).
ENFACE_WINDOW_PX = 81
# Parameters that came later: at their defaults they are not recorded, so that acquisitions
# written before keep their record and their bytes.
_LATER = ("saving_type", "complex_z_order", "mosaics_per_slice", "grid_rows_tilted")


@dataclass(frozen=True)
class AcquisitionSettings:
    """Parameters of a synthetic acquisition; equal settings give equal files.

    Attributes
    ----------
    n_slices
        Slices of `mosaics_per_slice` mosaics each.
    mosaics_per_slice
        2: a normal mosaic (odd number) and a tilted one (even number), each with raw files of its
        own. 3: normal, tiltPos and tiltNeg, which come from one raw file per place, its A-lines
        taking turns. They share the positions, the grid and the tile size of the normal view
        (parameters of the tilted one are not used); tiltPos is tilted by the size of
        `gamma_deg`, tiltNeg by its negative.
    saving_type
        What the acquisition host saves of each tile. ``spectral``: 16-bit spectra.
        ``spectral_12bit``: packed spectra without a header. ``complex``: Jones components.
        ``complex_with_spectral``: both. ``processed_with_spectral``: spectra, and aip, mip, ret,
        ori, surf and dBI. ``processed``: aip, mip, ret, ori, biref and surf alone, made without
        spectra (see `enface`): a large mosaic takes seconds. Three mosaics per slice come as
        spectra only.
    complex_z_order
        Depth of complex tiles. ``raw``: as transformed, nearest zero delay first; ``flipped``:
        the other way round, as older versions of the host's software wrote it.
    seed
        Seed of the tissue, the stage error, the speckle and the noise.
    grid_columns, grid_columns_tilted, grid_rows, grid_rows_tilted
        Tiles along x and along y (normal, tilted view). No `grid_rows_tilted`: as `grid_rows`.
    alines, alines_tilted, blines
        Tile size in px: A-lines = x (normal, tilted view), B-lines = y.
    samples
        Samples per A-line and camera; depth has ``samples // 2 - 24`` px.
    tile_overlap_percent
        Nominal overlap of neighbouring tiles, percent of the tile along either axis.
    voxel_um
        Voxel size along (x, y, z), um.
    wavelength_um
        Centre wavelength that turns birefringence into retardance, um.
    gamma_deg
        Angle of the tilted view, degrees; of three views, its size alone.
    phase_offset_deg
        Offset that the processing adds to the optic axis, degrees.
    slice_thickness_um
        How far the tissue has moved on from slice to slice, um.
    first_surface_px
        Mean depth of the tissue surface, 0-based z index after the depth flip. The linear
        interpolation of the processing smears more of the signal the shallower this is.
    surface_snr_db
        Mean signal power of the uppermost tissue over the noise power, after processing, dB.
    noise_floor_db
        Noise power (both channels) after processing at the depth of the surface, dB. 52.7 puts
        the background below, and the tissue above, the usual mask thresholds of 55 and 60 dB.
    agar_snr_db
        Scattering of what surrounds the tissue over the noise power, dB.
    attenuation_length_um
        Depth over which the signal amplitude falls to 1/e, um.
    background_fraction
        Share of the nominal mosaic without tissue.
    jitter_px, repeat_jitter_px
        Stage error per tile and axis, px rms: drawn once per view; drawn again for each slice.
    step_error_percent, shear_percent
        Lattice error: the stage's step against the nominal one, and its skew, percent.
    vignetting
        Share of the signal power lost in the corners of a tile.
    field_curvature_px
        How much deeper the tile's corners appear than its centre, px.
    view_slope_px
        How much deeper the last A-line of a tilted tile appears than the first, px; the other way
        round for tiltPos.
    view_rotation_deg, view_shift_px
        Scan of the tilted view against the normal one: rotation, and shift (y, x) of the centre.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    n_slices: int = 2
    mosaics_per_slice: int = 2
    saving_type: SavingType = "spectral"
    complex_z_order: ZOrder = "raw"
    seed: int = 0
    grid_columns: int = 3
    grid_columns_tilted: int = 3
    grid_rows: int = 3
    grid_rows_tilted: int | None = None
    alines: int = 48
    alines_tilted: int = 48
    blines: int = 48
    samples: int = 2048
    tile_overlap_percent: float = 30.0
    voxel_um: tuple[float, float, float] = (10.0, 10.0, 2.5)
    wavelength_um: float = 1.3
    gamma_deg: float = -15.0
    phase_offset_deg: float = 100.0
    slice_thickness_um: float = 500.0
    first_surface_px: float = 300.0
    surface_snr_db: float = 15.0
    noise_floor_db: float = 52.7
    agar_snr_db: float = -10.0
    attenuation_length_um: float = 300.0
    background_fraction: float = 0.32
    jitter_px: float = 2.0
    repeat_jitter_px: float = 0.2
    step_error_percent: float = 1.2
    shear_percent: float = 0.6
    vignetting: float = 0.25
    field_curvature_px: float = 2.0
    view_slope_px: float = 2.0
    view_rotation_deg: float = 0.8
    view_shift_px: tuple[float, float] = (2.3, -1.7)

    def __post_init__(self) -> None:
        # Lists, as YAML gives them, would make the record unhashable.
        object.__setattr__(self, "voxel_um", tuple(self.voxel_um))
        object.__setattr__(self, "view_shift_px", tuple(self.view_shift_px))

        def require(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ConfigError(
                    f"simulator: {name} is {getattr(self, name)!r}, expected {expected}. "
                    f"Change {name}."
                )

        require(self.mosaics_per_slice in _VIEWS, "mosaics_per_slice", "2 or 3")
        types = get_args(SavingType)
        require(self.saving_type in types, "saving_type", f"one of {', '.join(types)}")
        if self.mosaics_per_slice == 3:
            expected = f"{' or '.join(_INTERLEAVED_TYPES)} with three mosaics per slice"
            require(self.saving_type in _INTERLEAVED_TYPES, "saving_type", expected)
        require(self.complex_z_order in get_args(ZOrder), "complex_z_order", "raw or flipped")
        for name in ("n_slices", "grid_columns", "grid_columns_tilted", "grid_rows"):
            require(getattr(self, name) >= 1, name, "at least 1")
        rows = self.grid_rows_tilted
        require(rows is None or rows >= 1, "grid_rows_tilted", "at least 1, or none")
        widest = NIFTI1_LONGEST_AXIS // self._alines_per_axis
        for name in ("alines", "alines_tilted"):
            require(8 <= getattr(self, name) <= widest, name, f"8 to {widest} px")
        require(8 <= self.blines <= NIFTI1_LONGEST_AXIS, "blines", f"8 to {NIFTI1_LONGEST_AXIS} px")
        require(self.samples >= 512 and self.samples % 4 == 0, "samples", "a multiple of 4 >= 512")
        require(0 <= self.tile_overlap_percent <= 90, "tile_overlap_percent", "0 to 90")
        require(min(self.voxel_um) > 0, "voxel_um", "positive sizes")
        require(0 < self.background_fraction < 1, "background_fraction", "between 0 and 1")
        require(abs(self.gamma_deg) < 60, "gamma_deg", "less than 60 degrees either way")
        deepest = self.depth_px - ENFACE_WINDOW_PX - 40
        require(
            40 <= self.first_surface_px <= deepest,
            "first_surface_px",
            f"40 to {deepest} for {self.samples} samples",
        )

    @property
    def depth_px(self) -> int:
        """Depth samples that the processing keeps."""
        return self.samples // 2 - CROPPED_BINS

    @property
    def n_mosaics(self) -> int:
        """Mosaics of the acquisition."""
        return self.n_slices * self.mosaics_per_slice

    @property
    def views(self) -> tuple[View, ...]:
        """Views of a slice in the order of its mosaics; the first is normal."""
        return _VIEWS[self.mosaics_per_slice]

    @property
    def is_interleaved(self) -> bool:
        """Whether one raw file holds all views of a place."""
        return self.mosaics_per_slice == 3

    @property
    def saves_spectra(self) -> bool:
        """Whether the spectra are among the files of a tile."""
        return self.saving_type not in ("complex", "processed")

    @property
    def saves_complex(self) -> bool:
        """Whether the Jones components are among the files of a tile."""
        return self.saving_type in ("complex", "complex_with_spectral")

    @property
    def _alines_per_axis(self) -> int:
        """How many times the A-lines of a tile are on the longest axis of its files."""
        if self.saves_complex:
            return 4  # real and imaginary part of two channels
        return 2 * self.mosaics_per_slice if self.is_interleaved else 2

    def slice_and_view(self, mosaic: int) -> tuple[int, View]:
        """Slice number and view of a mosaic; numbers are 1-based."""
        slice_0, position = divmod(mosaic - 1, self.mosaics_per_slice)
        return slice_0 + 1, self.views[position]

    def tilt_deg(self, view: View) -> float:
        """Angle of a view, degrees."""
        angles = {
            "normal": 0.0,
            "tilted": self.gamma_deg,
            "tiltPos": abs(self.gamma_deg),
            "tiltNeg": -abs(self.gamma_deg),
        }
        return angles[view]

    def grid_shape(self, view: View) -> tuple[int, int]:
        """Grid of a view as (rows, columns)."""
        if view != "tilted":
            return self.grid_rows, self.grid_columns
        rows = self.grid_rows if self.grid_rows_tilted is None else self.grid_rows_tilted
        return rows, self.grid_columns_tilted

    def tile_shape(self, view: View) -> tuple[int, int]:
        """En-face size of a view's tile as (y, x) = (B-lines, A-lines)."""
        return self.blines, self.alines_tilted if view == "tilted" else self.alines

    def to_json(self) -> str:
        """Canonical JSON of the parameters, without later ones at their defaults (see `_LATER`)."""
        values = dataclasses.asdict(self)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if values["grid_rows_tilted"] == self.grid_rows:
            values["grid_rows_tilted"] = None  # says the same
        for name in _LATER:
            if values[name] == defaults[name]:
                del values[name]
        return json.dumps(values, sort_keys=True)
