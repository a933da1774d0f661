"""Templates from Fiji, and from files of Fiji: positions, what is warned of, what is refused."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.mosaic.tile_configuration import tile_configuration_text
from opticstream_smk.preflight.coordinates import check_coordinates
from opticstream_smk.stages.positions_by_method import method_params
from opticstream_smk.stages.resources import stage_resources
from opticstream_smk.stages.solve_coordinates import compute, params
from opticstream_smk.stages.tilemap import read_tilemap
from tests.mosaic.fake_fiji import FakeFiji
from tests.mosaic.phantom import make_phantom, position_errors

SHAPE = (128, 96)  # y, x


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 4, SHAPE, 25, seed=6, jitter_px=1.0)


@pytest.fixture
def config_of(make_config):
    def make(**values):
        return make_config(
            acquisition__grid_size_x_normal=4,
            acquisition__grid_size_x_tilted=4,
            acquisition__grid_size_y=3,
            acquisition__tile_size_x_normal=SHAPE[1],
            acquisition__tile_size_y=SHAPE[0],
            acquisition__tile_overlap_percent=25,
            **values,
        )

    return make


@pytest.fixture
def solve(phantom, tmp_path):
    """Solve the template of a mosaic of the phantom; returns outcome and template."""

    def solve(config, *, mosaic=1):
        layout = ProjectLayout(tmp_path / "project")
        for image, tile in enumerate(phantom.tiles, start=1):
            path = layout.processed_tile(mosaic, image, "aip")
            path.parent.mkdir(parents=True, exist_ok=True)
            nifti.write_image(path, tile, nifti.Geometry((0.01, 0.01, 0.0025)))
        plan = SimpleNamespace(
            template_mosaics=lambda _acquisition: (mosaic,),
            accept_missing=lambda _mosaic: [],
            images=lambda _mosaic: range(1, 13),
            slice=lambda number: (number + 1) // 2,
        )
        context = SimpleNamespace(config=config, layout=layout, acquisition="normal", plan=plan)
        return compute(context), read_tilemap(config, layout, "normal")

    return solve


def names(mosaic=1):
    return [f"mosaic_{mosaic:03d}_image_{image:04d}_aip.nii" for image in range(1, 13)]


def test_a_template_from_a_file(solve, config_of, phantom, tmp_path):
    config = config_of(
        mosaic__method="tileconfig",
        mosaic__tile_configuration="by hand/{acquisition} {slice} {mosaic:03d}.txt",
        mosaic__template_slice=2,
    )
    file = tmp_path / "by hand" / "normal 2 003.txt"
    file.parent.mkdir()
    given = phantom.true - phantom.true[4]
    given[7] = 0
    file.write_text(tile_configuration_text(names(3), given))
    outcome, tilemap = solve(config, mosaic=3)
    assert np.flatnonzero(~tilemap.is_anchored).tolist() == [7]
    errors = position_errors(tilemap.positions_px, phantom.true, tilemap.is_anchored)
    assert errors[tilemap.is_anchored].max() < 2e-3  # as the template rounds
    assert errors[7] < 5
    assert outcome.extra["unanchored_images"] == [8]
    assert outcome.extra["verdict"] == "warn"
    assert "1 of 12 tiles were linked to none of their neighbours by Fiji" in outcome.warnings[0]
    assert outcome.numbers["residual_px_rms"] < 0.5
    assert outcome.numbers["anchored_tiles"] == 11
    assert any(str(file) in str(entry.path) for entry in outcome.inputs)


def test_a_file_without_some_tiles(solve, config_of, phantom, tmp_path):
    config = config_of(mosaic__method="tileconfig", mosaic__tile_configuration="t.txt")
    file = tmp_path / "t.txt"
    file.write_text(tile_configuration_text(names()[1:], phantom.true[1:]))
    outcome, tilemap = solve(config)
    assert f"{file} lists 11 of 12 tiles; images 1 lie where" in outcome.warnings[0]
    assert np.flatnonzero(~tilemap.is_anchored).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (None, IncompleteInputError, "no such tile configuration"),
        ("dim = 2\nx; (0, 0)\n", CorruptInputError, "line 2"),
        (
            "dim = 2\nimage_0013.nii; ; (0, 0)\n",
            CorruptInputError,
            "is image 13, expected images 1",
        ),
    ],
)
def test_files_that_cannot_be_used(solve, config_of, tmp_path, text, kind, expected):
    config = config_of(mosaic__method="tileconfig", mosaic__tile_configuration="t.txt")
    if text is not None:
        (tmp_path / "t.txt").write_text(text)
    with pytest.raises(kind) as caught:
        solve(config)
    assert expected in str(caught.value)
    assert str(tmp_path / "t.txt") in str(caught.value)
    assert not (tmp_path / "project" / "tilemap-normal.j2").exists()


def test_a_template_from_fiji(solve, config_of, phantom, tmp_path):
    fiji = FakeFiji(tmp_path / "Fiji app", memory_mb=1234)
    given = phantom.true - phantom.true[4]
    given[[0, 11]] = 0
    fiji.behave(registered=given.tolist())
    config = config_of(
        mosaic__method="fiji",
        mosaic__fiji={"executable": "Fiji app/ImageJ linux", "java_memory_mb": 1234},
    )
    outcome, tilemap = solve(config)
    assert np.flatnonzero(~tilemap.is_anchored).tolist() == [0, 11]
    errors = position_errors(tilemap.positions_px, phantom.true, tilemap.is_anchored)
    assert errors[tilemap.is_anchored].max() < 2e-3
    assert outcome.extra["unanchored_images"] == [1, 12]
    assert fiji.called["type"] == "Grid: snake by columns"
    assert (fiji.called["grid_size_x"], fiji.called["grid_size_y"]) == ("4", "3")
    assert f"{tmp_path}/project/mosaic-01/processed/.fiji-normal-" in fiji.called["directory"]
    assert [p.name for p in (tmp_path / "project/mosaic-01/processed").glob(".fiji*")] == []


def test_what_the_default_method_computes_is_what_it_was(config_of):
    """Projects of before have no such key; their templates must not be taken for outdated."""
    assert method_params(config_of()) == {}
    native = params(config_of(), "normal")
    foreign = params(
        config_of(mosaic__method="tileconfig", mosaic__tile_configuration="t"), "normal"
    )
    assert native != foreign


def test_fiji_counts_among_what_a_job_takes(config_of, tmp_path):
    plain = stage_resources(config_of(), "solve_coordinates").memory_mb
    config = config_of(
        mosaic__method="fiji", mosaic__fiji={"executable": "x", "java_memory_mb": 3000}
    )
    assert stage_resources(config, "solve_coordinates").memory_mb == plain + 3000


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mosaic__method": "fiji"}, "method fiji needs fiji.executable"),
        ({"mosaic__method": "tileconfig"}, "method tileconfig needs tile_configuration"),
        ({"mosaic__method": "magic"}, "mosaic.method"),
        ({"mosaic__tile_configuration": "{tile}.txt"}, "no other names in braces"),
        ({"mosaic__tile_configuration": "{mosaic"}, "no other names in braces"),
        ({"mosaic__fiji": {"arguments": ["--headless"]}}, "expected {macro} once"),
        (
            {
                "mosaic__method": "tileconfig",
                "mosaic__tile_configuration": "t.txt",
                "mosaic__coordinates": "every_slice",
            },
            "needs {mosaic} or {slice}",
        ),
    ],
)
def test_settings_that_do_not_fit(config_of, values, expected):
    with pytest.raises(ConfigError) as caught:
        config_of(**values)
    assert expected in str(caught.value)


def test_the_executable_is_a_path_or_a_name(config_of, tmp_path):
    config = config_of(mosaic__fiji={"executable": "fiji-linux64"})
    assert str(config.mosaic.fiji.executable) == "fiji-linux64"
    config = config_of(mosaic__fiji={"executable": "app/fiji"})
    assert config.mosaic.fiji.executable == tmp_path / "app" / "fiji"


def test_preflight_looks_for_fiji(config_of, tmp_path, monkeypatch):
    assert check_coordinates(config_of()) == []
    config = config_of(mosaic__method="fiji", mosaic__fiji={"executable": "fiji-of-the-lab"})
    (check,) = check_coordinates(config)
    assert check.verdict == "FAILED"
    assert check.exit_code == 2
    assert "fiji-of-the-lab is not there" in check.found
    fiji = FakeFiji(tmp_path / "bin")
    fiji.path.rename(fiji.path.with_name("fiji-of-the-lab"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (check,) = check_coordinates(config)
    assert check.verdict == "ok"
    assert str(tmp_path / "bin" / "fiji-of-the-lab") in check.found


def test_preflight_looks_at_files(config_of, tmp_path):
    config = config_of(
        mosaic__method="tileconfig", mosaic__tile_configuration="{acquisition}-{mosaic}.txt"
    )
    (tmp_path / "normal-1.txt").write_text(tile_configuration_text(names(), np.zeros((12, 2))))
    (tmp_path / "tilted-2.txt").write_text("dim = 2\nx\n")
    normal, tilted = check_coordinates(config)
    assert (normal.verdict, normal.numbers) == ("ok", {"tiles": 12})
    assert (tilted.verdict, tilted.exit_code) == ("FAILED", 3)
    (tmp_path / "tilted-2.txt").unlink()
    assert check_coordinates(config)[1].verdict == "note"
