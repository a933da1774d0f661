"""Mosaics of maps that are not as they should be, through the stages up to stitching.

Each case says what is wrong, where and what to do; what does not depend on it goes on, and is kept.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from opticstream_smk.errors import (
    CorruptInputError,
    IncompleteInputError,
    OpticStreamError,
    QualityError,
)
from opticstream_smk.io import nifti
from opticstream_smk.mosaic import nominal_positions, snake_order
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.simulate import AcquisitionSettings, simulate_psoct
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.stage import TilesFailedError, run_stage
from opticstream_smk.stages.tilemap import Tilemap, read_tilemap, write_tilemap
from opticstream_smk.state.flags import Flag, read_flag
from opticstream_smk.state.places import batch_place, mosaic_place, tilemap_place
from opticstream_smk.trigger.close import close_mosaic
from opticstream_smk.trigger.ready import scan

MODALITIES = ["aip", "ret", "ori"]
KINDS = ("aip", "mip", "ret", "ori", "biref", "surf")
SIDE = 96
SETTINGS = AcquisitionSettings(
    n_slices=1, seed=4, saving_type="processed", grid_columns=4, grid_rows=4,
    grid_columns_tilted=1, grid_rows_tilted=1, alines=SIDE, blines=SIDE, alines_tilted=16,
    tile_overlap_percent=25, background_fraction=0.15, jitter_px=1.0,
)  # fmt: skip


class Mosaic:
    """A project of one mosaic of 4 x 4 tiles whose maps a test may damage."""

    def __init__(self, config):
        self.config = config
        self.layout = project_layout(config)
        self.raw = config.acquisition.sources[0].dir

    def map(self, image, kind="aip") -> Path:
        return self.raw / f"mosaic_001_image_{image:04d}_{kind}.nii"

    def edit(self, image, change, kind="aip"):
        """Replace a map by what `change` makes of its (X, Y, 1) values."""
        path = self.map(image, kind)
        values = change(np.asarray(nibabel.load(path).dataobj).copy())
        path.unlink()
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)

    def truncate(self, image, kind="aip"):
        content = self.map(image, kind).read_bytes()
        self.map(image, kind).unlink()
        self.map(image, kind).write_bytes(content[:5000])

    def process(self) -> dict[int, OpticStreamError]:
        """Process all batches; what failed, by batch."""
        failed = {}
        for batch in Plan(self.config, self.layout).ready_batches(1):
            try:
                run_stage(find_stage("process_tiles"), self.config, batch_place(1, batch, 2))
            except OpticStreamError as error:
                failed[batch] = error
        return failed

    def solve(self, **options) -> Flag:
        stage = find_stage("solve_coordinates", "tilemap")
        run_stage(stage, self.config, tilemap_place("normal"), **options)
        return read_flag(self.layout.tilemap_flag("normal"))

    def locate(self, **options) -> Flag:
        stage = find_stage("solve_coordinates", "mosaic")
        run_stage(stage, self.config, mosaic_place(1, 2), **options)
        return read_flag(self.layout.mosaic_flag(1, "coordinates"))

    def stitch(self, **options) -> Flag:
        run_stage(find_stage("stitch_enface"), self.config, mosaic_place(1, 2), **options)
        return read_flag(self.layout.mosaic_flag(1, "stitched"))

    def read(self, name):
        return np.asarray(nifti.read_image(self.layout.stitched(1, name)))

    def processed(self):
        return sorted(
            path.name for path in (self.layout.root / "mosaic-01/processed").glob("*.nii")
        )


@pytest.fixture(scope="module")
def acquired(tmp_path_factory):
    return simulate_psoct(SETTINGS, tmp_path_factory.mktemp("acquired")).out_dir


@pytest.fixture
def make_mosaic(make_config, acquired, tmp_path):
    def make(source=acquired, **overrides):
        shutil.copytree(source, tmp_path / "raw", copy_function=os.link)
        config = make_config(
            **{
                "acquisition__sources": [{"dir": "raw", "mosaic_ranges": "1:1"}],
                "acquisition__tile_saving_type": "processed",
                "acquisition__grid_size_x_normal": 4,
                "acquisition__grid_size_x_tilted": 1,
                "acquisition__grid_size_y": 4,
                "acquisition__grid_size_y_tilted": 1,
                "acquisition__tile_size_x_normal": SIDE,
                "acquisition__tile_size_x_tilted": 16,
                "acquisition__tile_size_y": SIDE,
                "acquisition__samples_per_aline": SETTINGS.samples,
                "processing__modalities": MODALITIES,
                "mosaic__modalities": MODALITIES,
                "registration__enabled": False,
                **overrides,
            }
        )
        return Mosaic(config)

    return make


@pytest.fixture
def mosaic(make_mosaic):
    return make_mosaic()


def test_a_good_mosaic_says_nothing(mosaic):
    scan(mosaic.config, assume_stable=True)
    assert mosaic.process() == {}
    solved = mosaic.solve()
    assert solved.extra["verdict"] == "ok"
    mosaic.locate()
    assert "warnings" not in mosaic.stitch().extra


# ------------------------------------------------------------------------------- missing
def test_a_map_is_missing(mosaic):
    mosaic.map(6, "ret").unlink()
    found = scan(mosaic.config, assume_stable=True)
    assert found.waiting == ["mosaic 001 batch 002: 3 of 4 tiles, missing 6 (no ret)"]
    assert mosaic.process() == {}  # the other batches
    with pytest.raises(IncompleteInputError):
        mosaic.solve()


def test_a_tile_is_missing(mosaic):
    for kind in KINDS:
        mosaic.map(6, kind).unlink()
    found = scan(mosaic.config, assume_stable=True)
    assert found.waiting == ["mosaic 001 batch 002: 3 of 4 tiles, missing 6"]
    close_mosaic(mosaic.config, 1, missing=[6])
    assert mosaic.process() == {}
    solved = mosaic.solve()
    assert "the template mosaic 001 lacks 1 of 16 tiles (images 6)" in "".join(
        solved.extra["warnings"]
    )
    mosaic.locate()
    flag = mosaic.stitch()
    assert flag.tiles.missing == (6,)
    assert "1 of 16 tiles are missing (images 6)" in "".join(flag.extra["warnings"])
    assert np.isfinite(mosaic.read("ori")).all()


# -------------------------------------------------------------------- a map that cannot be
def nan_half(values):
    values[: SIDE // 2] = np.nan
    return values


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("aip", lambda v: np.full_like(v, 60), "all values are 60, expected values that differ"),
        ("ori", lambda v: np.full_like(v, 10), "all values are 10, expected values that differ"),
        ("aip", lambda v: v * np.nan, "finite share 0 (9216 of 9216 values are NaN or infinite)"),
        ("ret", nan_half, "finite share 0.5 (4608 of 9216 values are NaN or infinite)"),
        ("aip", lambda v: v[:80], "shape (80, 96, 1), expected (96, 96)"),
        ("ret", lambda v: v.astype(np.int16), "int16"),
    ],
    ids=["constant", "constant ori", "NaN", "half NaN", "another size", "another type"],
)
def test_a_map_that_cannot_be_right_stops_its_tile_alone(mosaic, kind, change, said):
    mosaic.edit(6, change, kind)
    scan(mosaic.config, assume_stable=True)
    failed = mosaic.process()
    assert set(failed) == {2}
    assert isinstance(failed[2], TilesFailedError)
    assert failed[2].images == (6,)
    text = str(failed[2])
    for part in ("image 0006 of mosaic 001", str(mosaic.map(6, kind)), said,
                 "close --mosaic 1 --missing 6", "3 are done and kept"):  # fmt: skip
        assert part in text
    assert len(mosaic.processed()) == 15 * (len(MODALITIES) + 1)
    # Mended: only that tile is looked at again.
    before = {name: (mosaic.layout.root / "mosaic-01/processed" / name).lstat().st_mtime_ns
              for name in mosaic.processed()}  # fmt: skip
    mosaic.map(6, kind).unlink()
    simulate_psoct(SETTINGS, mosaic.raw)
    scan(mosaic.config, assume_stable=True)
    assert mosaic.process() == {}
    for name, time_ns in before.items():
        assert (mosaic.layout.root / "mosaic-01/processed" / name).lstat().st_mtime_ns == time_ns
    assert mosaic.solve().extra["verdict"] == "ok"


def test_a_bad_tile_is_given_up_as_its_message_says(mosaic):
    mosaic.edit(6, lambda values: values * np.nan)
    scan(mosaic.config, assume_stable=True)
    assert set(mosaic.process()) == {2}
    for kind in KINDS:
        mosaic.map(6, kind).unlink()
    close_mosaic(mosaic.config, 1, missing=[6])
    assert mosaic.process() == {}
    mosaic.solve()
    mosaic.locate()
    assert mosaic.stitch().tiles.missing == (6,)


# -------------------------------------------------------------------------- swapped, damaged
def test_two_tiles_are_swapped(mosaic):
    for kind in KINDS:
        first, second, between = mosaic.map(6, kind), mosaic.map(11, kind), mosaic.raw / "x"
        first.rename(between)
        second.rename(first)
        between.rename(second)
    scan(mosaic.config, assume_stable=True)
    assert mosaic.process() == {}
    solved = mosaic.solve()
    assert solved.extra["stranger_images"] == [6, 11]
    assert solved.extra["verdict"] == "warn"
    text = " ".join(solved.extra["warnings"])
    assert "images 6,11 show tissue that matches none of their neighbours" in text
    assert "redo --from" in text
    # The others lie where they would without; the picture is made, for people to look at.
    mosaic.locate()
    mosaic.stitch()
    assert mosaic.read("aip").max() > 60


def test_a_map_is_truncated_before_it_is_taken(mosaic):
    mosaic.truncate(6)
    found = scan(mosaic.config, assume_stable=True)
    (problem,) = found.problems
    assert f"{mosaic.map(6)} has 5000 bytes, its header asks for" in problem
    assert "truncated or still being written" in problem
    assert mosaic.process() == {}


@pytest.mark.parametrize("kind", ["aip", "ret"])
def test_a_map_is_truncated_after_it_was_taken(mosaic, kind):
    scan(mosaic.config, assume_stable=True)
    assert mosaic.process() == {}
    mosaic.truncate(6, kind)

    def go_on():
        mosaic.solve()
        mosaic.locate()
        mosaic.stitch()

    with pytest.raises(CorruptInputError) as error:
        go_on()
    assert f"mosaic_001_image_0006_{kind}.nii" in str(error.value)
    assert "optic-trigger doctor --fix" in str(error.value)
    # The raw folder is asked for the file again; its message says which one.
    (mosaic.layout.processed_tile(1, 6, kind)).unlink()
    run = mosaic.layout.batch_flag(1, 2, "processed")
    run.unlink()
    assert set(failed := mosaic.process()) == {2}
    assert f"raw tile {mosaic.map(6, kind)} has 5000 bytes; it had" in str(failed[2])


def test_a_map_loses_its_values_after_it_was_taken(mosaic):
    scan(mosaic.config, assume_stable=True)
    assert mosaic.process() == {}
    mosaic.edit(6, lambda values: values * np.nan)
    with pytest.raises(QualityError, match=r"mosaic_001_image_0006_aip\.nii.*no finite value"):
        mosaic.solve()
    assert not mosaic.layout.template("normal").exists()


def test_a_few_pixels_without_value_do_no_harm(mosaic):
    def spotted(values):
        values[10:14, 20:24] = np.nan
        return values

    scan(mosaic.config, assume_stable=True)
    mosaic.process()
    whole = mosaic.solve()
    before = read_tilemap(mosaic.config, mosaic.layout, "normal")
    mosaic.edit(6, spotted)
    scan(mosaic.config, assume_stable=True)
    mosaic.solve(force=True)
    after = read_tilemap(mosaic.config, mosaic.layout, "normal")
    assert whole.extra["verdict"] == "ok"
    np.testing.assert_allclose(after.positions_px, before.positions_px, atol=0.1)
    np.testing.assert_allclose(after.avg_signal, before.avg_signal, atol=0.1)


# ----------------------------------------------------------------------- nothing to be seen
def test_a_mosaic_without_tissue(make_mosaic, tmp_path_factory):
    dark = dataclasses.replace(SETTINGS, surface_snr_db=-60.0)
    mosaic = make_mosaic(simulate_psoct(dark, tmp_path_factory.mktemp("dark")).out_dir)
    scan(mosaic.config, assume_stable=True)
    assert mosaic.process() == {}
    solved = mosaic.solve()
    assert solved.extra["verdict"] == "warn"
    assert "16 of 16 tiles have too little content" in " ".join(solved.extra["warnings"])
    assert solved.numbers["anchored_tiles"] == 0
    mosaic.locate()
    flag = mosaic.stitch()
    text = " ".join(flag.extra["warnings"])
    assert "the mask is empty: no pixel of the AIP exceeds 60 dB (its highest value is 5" in text
    assert "mosaic.mask_threshold_normal" in text
    assert not mosaic.read("mask").any()
    assert (mosaic.read("aip") == mosaic.config.mosaic.fill_value).all()
    assert 50 < np.median(mosaic.read("aip_nomask")) < 55


# --------------------------------------------------------------------------------- template
@pytest.mark.parametrize(("rows", "columns"), [(2, 8), (8, 2), (5, 4)])
def test_a_template_for_another_grid(mosaic, rows, columns):
    scan(mosaic.config, assume_stable=True)
    mosaic.process()
    mosaic.solve()
    mosaic.locate()
    count = rows * columns
    positions = nominal_positions(snake_order(rows, columns), (SIDE, SIDE), 25)
    other = Tilemap(positions, np.ones(count, bool), (SIDE, SIDE), np.full(count, 60.0))
    template = mosaic.layout.template("normal")
    write_tilemap(mosaic.config, template, other)
    for stage in (mosaic.stitch, mosaic.locate):
        with pytest.raises(CorruptInputError) as error:
            stage(force=True)
        assert str(template) in str(error.value)
        assert "it was made for another grid" in str(error.value)
        assert "optic-trigger doctor --fix" in str(error.value)
    assert len(mosaic.processed()) == 16 * (len(MODALITIES) + 1)


def test_a_template_with_fewer_tiles(mosaic):
    scan(mosaic.config, assume_stable=True)
    mosaic.process()
    mosaic.solve()
    template = mosaic.layout.template("normal")
    text = template.read_text()
    template.write_text(text[: text.index("  - filepath:", text.index("tile_number: 15"))])
    with pytest.raises(CorruptInputError) as error:
        mosaic.locate()
    assert f"{template} lists 15 tiles and 0 that were dropped, the grid" in str(error.value)
    assert "it was made for another grid" in str(error.value)
    assert "optic-trigger doctor --fix" in str(error.value)
    assert len(mosaic.processed()) == 16 * (len(MODALITIES) + 1)
