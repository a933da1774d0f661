import json
from typing import Any

import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.simulate import AcquisitionSettings


def test_json_holds_every_parameter():
    settings = AcquisitionSettings(seed=7, voxel_um=(5, 5, 2.5))
    assert json.loads(settings.to_json())["voxel_um"] == [5, 5, 2.5]
    assert json.loads(settings.to_json())["seed"] == 7


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
    ],
)
def test_out_of_range_values_are_named(wrong: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"simulator: \w+ is .*, expected .*\. Change \w+\."):
        AcquisitionSettings(**wrong)
