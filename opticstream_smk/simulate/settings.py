"""What a synthetic PS-OCT acquisition is made of: one frozen record of all its parameters."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from opticstream_smk.errors import ConfigError

View = Literal["normal", "tilted"]
VIEWS: tuple[View, View] = ("normal", "tilted")

# Depth bins that the processing drops next to zero delay (toolbox: bins 25..1024 of 2048).
CROPPED_BINS = 24
# A perfect pipeline averages this many samples from the surface down (toolbox window, depth 80).
ENFACE_WINDOW_PX = 81


@dataclass(frozen=True)
class AcquisitionSettings:
    """Parameters of a synthetic acquisition; equal settings give equal files.

    Attributes
    ----------
    n_slices
        Slices; each gives a normal mosaic (odd number) and a tilted one (even number).
    seed
        Seed of the tissue, the stage error, the speckle and the noise.
    grid_columns, grid_columns_tilted, grid_rows
        Tiles along x (normal, tilted view) and along y.
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
        Angle of the tilted view, degrees.
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
        How much deeper the last A-line of a tilted tile appears than the first, px.
    view_rotation_deg, view_shift_px
        Scan of the tilted view against the normal one: rotation, and shift (y, x) of the centre.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    n_slices: int = 2
    seed: int = 0
    grid_columns: int = 3
    grid_columns_tilted: int = 3
    grid_rows: int = 3
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

        for name in ("n_slices", "grid_columns", "grid_columns_tilted", "grid_rows"):
            require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("alines", "alines_tilted", "blines"):
            require(8 <= getattr(self, name) <= 16_383, name, "8 to 16383 px")
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
        """Mosaics of the acquisition: a normal and a tilted one per slice."""
        return self.n_slices * len(VIEWS)

    def grid_shape(self, view: View) -> tuple[int, int]:
        """Grid of a view as (rows, columns)."""
        return self.grid_rows, self.grid_columns if view == "normal" else self.grid_columns_tilted

    def tile_shape(self, view: View) -> tuple[int, int]:
        """En-face size of a view's tile as (y, x) = (B-lines, A-lines)."""
        return self.blines, self.alines if view == "normal" else self.alines_tilted

    def to_json(self) -> str:
        """Canonical JSON of all parameters."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
