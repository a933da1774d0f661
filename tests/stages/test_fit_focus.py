"""The focus plane as a stage: what it writes, records, refuses, and withdraws."""

import nibabel
import numpy as np
import pytest

from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.report.look import Look
from opticstream_smk.state.places import mosaic_place
from tests.stages.volume_project import (
    COLUMNS,
    ROWS,
    SCAN,
    SIZE_X,
    SIZE_Y,
    VOLUME,
    VolumeProject,
    field_plane,
)

# Whole depth indices, in overlaps of nine pixels; the plane spans five.
NOISE_PX = 0.2


@pytest.fixture
def config(make_config):
    return make_config(**SCAN, **VOLUME)


def error_px(project):
    return np.sqrt(np.mean((project.plane() - field_plane()) ** 2))


def test_the_plane_is_what_all_tiles_have_in_common(config):
    project = VolumeProject(config)
    flag = project.fit()
    assert error_px(project) < NOISE_PX
    assert flag.flag == "focus-normal.fitted"
    assert [output.path for output in flag.outputs] == ["focus-normal.nii"]
    numbers = flag.numbers
    assert numbers["usable_tiles"] == ROWS * COLUMNS
    assert numbers["residual_px_rms"] < 0.8 < numbers["before_px_rms"]
    assert numbers["span_px"] == pytest.approx(field_plane().max(), abs=0.2)
    assert flag.extra["template_slice"] == 1
    image = nibabel.load(project.layout.focus_plane("normal"))
    assert image.shape == (SIZE_X, SIZE_Y)
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header["pixdim"][1:3], 0.01)
    assert image.get_fdata().min() == 0


def test_a_plane_of_narrow_overlaps_is_not_trusted(config, make_config):
    project = VolumeProject(config)
    flag = project.fit()
    assert flag.numbers["uncertainty_px_rms"] < 0.5
    assert "warnings" not in flag.extra
    narrow = make_config(**SCAN, **{**VOLUME, "volume__focus_crop_x_px": 9})
    project.config = narrow
    flag = project.fit(force=True)
    assert flag.numbers["uncertainty_px_rms"] > 0.5
    assert "volume.focus_crop_x_px" in flag.extra["warnings"][0]


def test_a_surface_that_lies_last_gives_the_same_plane(config):
    project = VolumeProject(config, surface_last=True)
    project.fit()
    assert error_px(project) < NOISE_PX


def test_each_acquisition_has_its_own(config):
    normal, tilted = VolumeProject(config), VolumeProject(config, 2, seed=1)
    tilted.fit()
    assert not normal.layout.focus_flag("normal").exists()
    normal.fit()
    assert normal.layout.focus_plane("normal") != tilted.layout.focus_plane("tilted")
    assert error_px(tilted) < NOISE_PX


def only_signal_at(project, chosen):
    project.set_template(
        project.positions, np.where(np.isin(project.images, list(chosen)), 65.0, 50.0)
    )


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ((), "of whose 6 tiles 0 have 60 dB and more"),
        ((1,), "no two of 1 usable tiles overlap"),
        ((1, 2), "neighbours along x"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_way_out(config, chosen, said):
    project = VolumeProject(config)
    only_signal_at(project, chosen)
    error, record = project.failed(project.fit)
    assert isinstance(error, IncompleteInputError)
    assert said in str(error)
    assert "volume.focus: false" in str(error)
    assert record.extra["flag"] == "focus-normal.fitted"
    # The mosaic itself has not failed: nothing but volumes waits for the plane.
    look = Look(config)
    assert look.status(mosaic_place(1)) == "done"
    assert look.focus_status("normal") == "failed"
    assert [failure.stage for failure in look.failures()] == ["fit_focus"]
    without = config.model_copy(
        update={"volume": config.volume.model_copy(update={"focus": False})}
    )
    assert Look(without).failures() == []


def test_a_crop_as_wide_as_the_overlap_is_named(make_config):
    config = make_config(**SCAN, **{**VOLUME, "volume__focus_crop_x_px": 12})
    error, _ = (project := VolumeProject(config)).failed(project.fit)
    assert "volume.focus_crop_x_px 12" in str(error)
    assert "10 px" in str(error)


def test_fitting_again_withdraws_the_volumes_that_used_it(config):
    normal, tilted = VolumeProject(config), VolumeProject(config, 2, seed=1)
    for project in (normal, tilted):
        project.fit()
        project.stitch()
    normal.fit(force=True)
    assert normal.flag("volume_dBI") is None
    assert normal.flag("stitched") is not None
    assert tilted.flag("volume_dBI") is not None


def test_a_volume_without_focus_plane_is_kept(config, make_config):
    flat = make_config(**SCAN, **VOLUME, volume__focus=False)
    project = VolumeProject(flat)
    assert project.stitch().extra["focus_sha256"] is None
    project.config = config
    project.fit()
    assert project.flag("volume_dBI") is not None
