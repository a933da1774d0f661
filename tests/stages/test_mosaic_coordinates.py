"""A mosaic against the template of its acquisition: which positions it is stitched by."""

import json

import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError, QualityError
from opticstream_smk.stages.edge_table import read_edges
from opticstream_smk.stages.tilemap import stitched_tilemap
from opticstream_smk.state.places import mosaic_place
from tests.mosaic.phantom import position_errors, rms
from tests.stages.mosaic_project import GRID, Project, moved, phantom_of


@pytest.fixture(scope="module")
def phantoms():
    """By mosaic: those of the normal acquisition of slices 1 to 3."""
    return {mosaic: phantom_of(slice_) for slice_, mosaic in ((1, 1), (2, 3), (3, 5))}


@pytest.fixture
def project(make_config):
    def make(**options):
        return Project(make_config(**GRID, **options))

    return make


def errors_px(project, mosaic, phantom):
    return position_errors(project.positions(mosaic), phantom.true)


# -------------------------------------------------------------------------------------- reuse
def test_the_template_mosaic_is_not_solved_twice(project, phantoms, monkeypatch):
    it = project()
    it.add(1, phantoms[1].tiles)
    solved = it.solve()
    monkeypatch.setattr(
        "opticstream_smk.stages.mosaic_coordinates.solve_tiles", lambda *_: pytest.fail("solved")
    )
    flag = it.place(1)
    assert flag.extra["template"] == "tilemap-normal.j2"
    assert "was solved from this mosaic" in flag.extra["positions"]
    assert flag.numbers == solved.numbers
    table = it.layout.mosaic_edges(1).read_bytes()
    assert table == it.layout.template_edges("normal").read_bytes()


def test_a_mosaic_within_the_limit_is_stitched_by_the_template(project, phantoms):
    it = project()
    for mosaic in (1, 3):
        it.add(mosaic, phantoms[mosaic].tiles)
    it.solve()
    flag = it.place(3)
    assert flag.extra["template"] == "tilemap-normal.j2"
    assert flag.extra["template_sha256"] == it.template.sha256
    assert flag.extra["verdict"] == "ok"
    assert "warnings" not in flag.extra
    assert not it.layout.mosaic_template(3).exists()
    np.testing.assert_array_equal(it.positions(3), it.template.positions_px)
    # What the stage does not repeat is what is reported.
    apart = position_errors(phantoms[3].true, phantoms[1].true)
    assert flag.numbers["drift_px_rms"] == pytest.approx(rms(apart), abs=0.05)
    assert flag.numbers["compared_tiles"] == 16
    assert f"{flag.numbers['drift_px_rms']:.2f} px rms" in flag.extra["positions"]


def test_a_mosaic_beyond_the_limit_gets_positions_of_its_own(project, phantoms):
    it = project()
    it.add(1, phantoms[1].tiles)
    it.add(3, moved(phantoms[3], 6, (-4, 3)))
    it.solve()
    flag = it.place(3)
    assert flag.extra["template"] == "mosaic-03/tilemap.j2"
    assert flag.extra["verdict"] == "warn"
    [warning] = flag.extra["warnings"]
    assert "mosaic 003: its tiles lie" in warning
    assert "(image 6) from tilemap-normal.j2, expected 1 px rms and 3 px at most" in warning
    assert flag.numbers["drift_image_worst"] == 6
    assert flag.numbers["drift_px_worst"] == pytest.approx(5, abs=0.5)
    true = phantoms[3].true.copy()
    true[5] += (4, -3)
    off = position_errors(it.positions(3), true)
    assert rms(off) < 0.1
    # In the frame of the template, so that slices lie on each other.
    apart = it.positions(3) - it.template.positions_px
    np.testing.assert_allclose(np.median(apart, axis=0), 0, atol=0.01)
    assert {output.path for output in flag.outputs} == {
        "mosaic-03/tilemap.j2", "mosaic-03/stitched/mosaic_003_edges.tsv",
    }  # fmt: skip


def test_the_limit_is_the_configurations(project, phantoms):
    it = project(mosaic__drift_limit_px=0.1)
    for mosaic in (1, 3):
        it.add(mosaic, phantoms[mosaic].tiles)
    it.solve()
    assert it.place(3).extra["template"] == "mosaic-03/tilemap.j2"
    lax = project(mosaic__drift_limit_px=5)
    lax.add(3, moved(phantoms[3], 6, (-4, 3)))
    assert lax.place(3).extra["template"] == "tilemap-normal.j2"
    # A template of its own that is not used any more does not stay to mislead.
    assert not lax.layout.mosaic_template(3).exists()


def test_background_is_stitched_by_the_template_and_is_no_failure(project, phantoms):
    it = project()
    it.add(1, phantoms[1].tiles)
    noise = np.random.default_rng(1).normal(30, 1, phantoms[1].tiles.shape).astype(np.float32)
    it.add(3, noise)
    it.solve()
    for flag in (it.place(3),):
        assert flag.extra["template"] == "tilemap-normal.j2"
        assert "no overlap has content to compare with it" in flag.extra["positions"]
        assert flag.extra["verdict"] == "ok"
        assert flag.numbers["drift_px_rms"] is None
        assert flag.numbers["compared_tiles"] == 0


def test_what_stitching_and_its_readers_use(project, phantoms):
    it = project()
    it.add(1, phantoms[1].tiles)
    it.add(3, moved(phantoms[3], 6, (-4, 3)))
    it.solve()
    it.place(3)
    own = it.positions(3)
    it.history.write(mosaic_place(3), "stitched", extra={"template": "mosaic-03/tilemap.j2"})
    np.testing.assert_array_equal(stitched_tilemap(it.again, 3).positions_px, own)
    # An earlier version did not say, and knew the template of the acquisition only.
    it.history.write(mosaic_place(3), "stitched")
    before = stitched_tilemap(it.again, 3).positions_px
    np.testing.assert_array_equal(before, it.template.positions_px)


def test_missing_tiles(project, phantoms):
    it = project(mosaic__allow_missing_tiles=2)
    it.add(1, phantoms[1].tiles)
    it.add(3, moved(phantoms[3], 6, (-4, 3)), missing=[11])
    it.solve()
    flag = it.place(3)
    assert flag.tiles.missing == (11,)
    assert flag.numbers["compared_tiles"] == 15
    # It lies where the template has it.
    apart = it.positions(3) - it.template.positions_px
    assert np.hypot(*apart[10]) < 0.6


# ----------------------------------------------------------------------------- refine, every_slice
@pytest.mark.parametrize("mode", ["refine", "every_slice"])
def test_own_positions_always(project, phantoms, mode):
    it = project(mosaic__coordinates=mode)
    for mosaic in (1, 3):
        it.add(mosaic, phantoms[mosaic].tiles)
    it.solve()
    flag = it.place(3)
    assert flag.extra["template"] == "mosaic-03/tilemap.j2"
    assert "warnings" not in flag.extra
    assert rms(errors_px(it, 3, phantoms[3])) < 0.1
    assert it.place(1).extra["template"] == "tilemap-normal.j2"


def test_tiles_without_content_follow_the_template_where_it_is_refined(project, phantoms):
    half = phantom_of(2, tissue_share=0.55)
    empty = ~half.has_tissue
    off = {}
    for mode in ("refine", "every_slice"):
        it = project(mosaic__coordinates=mode)
        it.add(1, phantoms[1].tiles)
        it.add(3, half.tiles)
        it.solve()
        it.place(3)
        off[mode] = position_errors(it.positions(3), half.true, ~empty)[empty]
    assert rms(off["refine"]) < 0.7  # repeatability of both slices
    assert rms(off["every_slice"]) > 1.5  # jitter of the stage


# ------------------------------------------------------------------------------------- together
def test_several_slices_give_the_template_together(project):
    left, right = phantom_of(1, tissue_share=0.6), phantom_of(2)
    right.tiles[right.cells[:, 1] == 0] = 30
    alone = project()
    alone.add(1, left.tiles)
    alone.solve()
    assert not alone.template.is_anchored.all()
    it = project(mosaic__template_slices=[1, 2], project__dir="together")
    it.add(1, left.tiles)
    it.add(3, right.tiles)
    flag = it.solve()
    assert flag.extra["template_slices"] == [1, 2]
    assert flag.extra["template_slice"] == 2
    assert it.again.template_mosaics("normal") == (1, 3)
    assert it.template.is_anchored.all()
    assert rms(position_errors(it.template.positions_px, left.stage)) < 0.35
    # Neither is the template's own: both are compared.
    assert it.place(1).numbers["drift_px_rms"] > 0
    assert it.place(3).numbers["drift_px_rms"] > 0


# -------------------------------------------------------------------------------------- verdict
def test_positions_that_cannot_be_trusted_fail_with_a_remedy(project, phantoms):
    strict = {"max_residual_rms_px": [1e-4, 1e-3]}
    it = project(mosaic__quality=strict)
    it.add(1, phantoms[1].tiles)
    with pytest.raises(QualityError) as error:
        it.solve()
    text = str(error.value)
    assert "mosaic 001: the positions of its tiles cannot be trusted" in text
    assert "px rms from the positions that fit them best" in text
    assert str(it.layout.template_edges("normal")) in text
    assert "mosaic.quality.action: warn" in text
    assert "optic-trigger retry --mosaic 1" in text
    assert it.layout.template_edges("normal").exists()
    assert not it.layout.template("normal").exists()
    failed = json.loads(it.layout.mosaic_flag(1, "failed").read_text())
    assert failed["extra"]["flag"] == "tilemap-normal.solved"
    warned = project(mosaic__quality={**strict, "action": "warn"})
    flag = warned.solve()
    assert flag.extra["verdict"] == "fail"
    assert any("px rms from the positions that fit them best" in w for w in flag.extra["warnings"])


def test_a_mosaic_fails_only_by_positions_that_it_uses(project, phantoms):
    strict = {"max_rejected_share": [0.0, 0.0], "max_residual_rms_px": [1e-4, 1e-3]}
    it = project()
    for mosaic in (1, 3):
        it.add(mosaic, phantoms[mosaic].tiles)
    it.solve()
    reuse = project(mosaic__quality=strict)
    flag = reuse.place(3)
    assert flag.extra["template"] == "tilemap-normal.j2"
    assert flag.extra["verdict"] == "warn"
    refine = project(mosaic__quality=strict, mosaic__coordinates="refine")
    with pytest.raises(QualityError, match="mosaic 003: the positions of its tiles cannot"):
        refine.place(3)
    assert refine.layout.mosaic_edges(3).exists()
    assert not refine.layout.mosaic_template(3).exists()
    assert refine.place(1).extra["template"] == "tilemap-normal.j2"


def test_swapped_files_are_named_in_every_mosaic(project, phantoms):
    it = project()
    it.add(1, phantoms[1].tiles)
    tiles = phantoms[3].tiles.copy()
    tiles[[5, 10]] = tiles[[10, 5]]
    it.add(3, tiles)
    it.solve()
    flag = it.place(3)
    assert flag.extra["template"] == "tilemap-normal.j2"
    assert flag.extra["stranger_images"] == [6, 11]
    [warning] = flag.extra["warnings"]
    assert "mosaic 003: images 6,11 show tissue that matches none" in warning
    assert "Images 6 and 11 fit in each other's place." in warning
    assert flag.extra["exchanged_images"] in ([(6, 11)], [[6, 11]])
    assert "redo --from scan --mosaic 3" in warning


# ---------------------------------------------------------------------------------------- table
def test_the_table_of_the_overlaps(project, phantoms):
    it = project()
    it.add(1, phantoms[1].tiles)
    it.solve()
    header = it.layout.template_edges("normal").read_text().splitlines()[0]
    assert header == "image_a\timage_b\tdy_px\tdx_px\tncc\tweight\tresidual_px\tused"
    edges = read_edges(it.layout.template_edges("normal"))
    assert len(edges) == 24
    true = phantoms[1].true
    for edge in edges:
        assert edge.is_used
        np.testing.assert_allclose(
            edge.offset_px, true[edge.image_b - 1] - true[edge.image_a - 1], atol=0.3
        )
        assert 0.3 < edge.ncc <= 1
        assert edge.residual_px(it.template.positions_px) < 0.3


def test_a_table_with_overlaps_that_were_not_measured(project, phantoms, tmp_path):
    it = project(mosaic__allow_missing_tiles=1)
    it.add(1, phantoms[1].tiles, missing=[1])
    it.solve()
    path = it.layout.template_edges("normal")
    unknown = [edge for edge in read_edges(path) if not edge.is_measured]
    assert {edge.image_a for edge in unknown} | {edge.image_b for edge in unknown} == {1, 2, 8}
    assert all(np.isnan(edge.residual_px(it.template.positions_px)) for edge in unknown)
    assert not any(edge.is_used for edge in unknown)
    path.write_text(path.read_text().replace("\tyes", "", 1))
    with pytest.raises(CorruptInputError, match=r"tilemap-normal_edges\.tsv is no table"):
        read_edges(path)
    assert read_edges(tmp_path / "none.tsv") == []


def test_a_template_of_an_earlier_version_has_no_table(project, phantoms):
    it = project()
    it.add(1, phantoms[1].tiles)
    it.solve()
    it.layout.template_edges("normal").unlink()
    flag = it.place(1)
    assert flag.extra["template"] == "tilemap-normal.j2"
    assert flag.numbers["drift_px_rms"] < 0.05
    assert it.layout.mosaic_edges(1).exists()


def test_positions_before_there_are_any(project, phantoms):
    it = project()
    with pytest.raises(Exception, match="optic-stage solve_coordinates --mosaic 3"):
        it.positions(3)
