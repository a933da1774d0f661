import pytest

from opticstream_smk.preflight.volumes import check_volumes

SCAN = {
    "acquisition__grid_size_x_normal": 22,
    "acquisition__grid_size_x_tilted": 22,
    "acquisition__grid_size_y": 16,
    "acquisition__tile_size_x_normal": 350,
    "acquisition__tile_size_x_tilted": 200,
    "acquisition__tile_size_y": 350,
    "acquisition__samples_per_aline": 2048,
    "acquisition__tile_overlap_percent": 20,
    "volume__enabled": True,
}


def test_size_and_time_of_the_instrument(make_config):
    (check,) = check_volumes(make_config(**SCAN), 2)
    assert check.verdict == "ok"
    assert check.numbers["bytes"] == pytest.approx(2 * 3 * (64.8e9 + 37e9), rel=0.02)
    assert "dBI, R3D, O3D of every mosaic" in check.found


def test_none_are_told_with_the_reason(make_config):
    (check,) = check_volumes(make_config(**{**SCAN, "volume__enabled": False}), 1)
    assert check.verdict == "note"
    assert "volume.enabled is false" in check.found
    (check,) = check_volumes(make_config(**SCAN, processing__save_volume_outputs=False), 1)
    assert "tiles have no volumes" in check.found


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({"volume__focus_crop_x_px": 45}, "focus plane of tilted mosaics", "overlap by 40 px"),
        ({"acquisition__grid_size_y": 1}, "focus plane of normal mosaics", "22 x 1 tiles"),
        ({"volume__depth_px": 990}, "depth of volumes", "leaves 970"),
    ],
)
def test_settings_that_do_not_suit_the_tiles(make_config, change, name, said):
    checks = check_volumes(make_config(**{**SCAN, **change}), 1)
    found = {check.name: check for check in checks if check.verdict == "warning"}
    assert said in found[name].found
    assert found[name].remedy


def test_without_focus_plane_nothing_is_said_about_it(make_config):
    narrow = {**SCAN, "acquisition__grid_size_y": 1, "volume__focus": False}
    assert [check.verdict for check in check_volumes(make_config(**narrow), 1)] == ["ok"]
