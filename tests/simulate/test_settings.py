import dataclasses
import json
from typing import Any

import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.simulate import AcquisitionSettings

LATER = {
    "mosaics_per_slice": 3,
    "saving_type": "spectral_12bit",
    "complex_z_order": "flipped",
    "grid_rows_tilted": 5,
}


def test_json_holds_every_parameter():
    settings = AcquisitionSettings(seed=7, voxel_um=(5, 5, 2.5), **LATER)
    recorded = json.loads(settings.to_json())
    assert recorded["voxel_um"] == [5, 5, 2.5]
    assert recorded["seed"] == 7
    assert recorded.keys() == {field.name for field in dataclasses.fields(settings)}


def test_later_parameters_are_not_recorded_at_their_defaults():
    # Acquisitions on disk were recorded without them.
    recorded = json.loads(AcquisitionSettings().to_json())
    assert not recorded.keys() & LATER.keys()
    assert AcquisitionSettings(grid_rows=4, grid_rows_tilted=4).to_json() == (
        AcquisitionSettings(grid_rows=4).to_json()
    )


def test_mosaic_numbers():
    two, three = AcquisitionSettings(), AcquisitionSettings(mosaics_per_slice=3)
    assert [two.slice_and_view(m) for m in (1, 2, 3, 4)] == [
        (1, "normal"), (1, "tilted"), (2, "normal"), (2, "tilted"),
    ]  # fmt: skip
    assert [three.slice_and_view(m) for m in (1, 2, 3, 4)] == [
        (1, "normal"), (1, "tiltPos"), (1, "tiltNeg"), (2, "normal"),
    ]  # fmt: skip
    assert (two.n_mosaics, three.n_mosaics) == (4, 6)


def test_three_views_share_grid_and_tile():
    settings = AcquisitionSettings(
        mosaics_per_slice=3, grid_columns=4, grid_columns_tilted=7, alines=40, gamma_deg=-10
    )
    for view in settings.views:
        assert settings.grid_shape(view) == (3, 4)
        assert settings.tile_shape(view) == (48, 40)
    assert [settings.tilt_deg(view) for view in settings.views] == [0, 10, -10]


def test_lists_become_tuples():
    settings = AcquisitionSettings(voxel_um=[10, 10, 2.5], view_shift_px=[0, 0])  # type: ignore[arg-type]
    assert settings == AcquisitionSettings(view_shift_px=(0, 0))
    assert hash(settings)


def test_views_differ_in_grid_and_tile():
    settings = AcquisitionSettings(grid_columns=4, grid_columns_tilted=7, alines_tilted=30)
    assert settings.grid_shape("normal") == (3, 4)
    assert settings.grid_shape("tilted") == (3, 7)
    assert settings.tile_shape("normal") == (48, 48)
    assert settings.tile_shape("tilted") == (48, 30)
    assert settings.depth_px == 1000
    rows = dataclasses.replace(settings, grid_rows_tilted=5)
    assert rows.grid_shape("normal") == (3, 4)
    assert rows.grid_shape("tilted") == (5, 7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_slices": 0},
        {"alines": 2},
        {"samples": 510},
        {"tile_overlap_percent": 95.0},
        {"background_fraction": 0.0},
        {"first_surface_px": 900.0},
        {"samples": 512},  # the default surface lies too deep for these
        {"voxel_um": (10.0, 10.0, 0.0)},
        {"gamma_deg": 80.0},
        {"mosaics_per_slice": 4},
        {"saving_type": "spectral_14bit"},
        {"saving_type": "complex", "mosaics_per_slice": 3},
        {"complex_z_order": "reversed"},
        {"grid_rows_tilted": 0},
        {"alines": 9000, "saving_type": "complex"},  # 36000 > 32767 along the first axis
        {"alines": 6000, "mosaics_per_slice": 3},
    ],
)
def test_out_of_range_values_are_named(wrong: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"simulator: \w+ is .*, expected .*\. Change \w+\."):
        AcquisitionSettings(**wrong)
