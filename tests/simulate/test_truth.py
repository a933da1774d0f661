import numpy as np
import pytest
from scipy import ndimage

from opticstream_smk.simulate import AcquisitionSettings
from opticstream_smk.simulate.optics import apparent_fibre
from opticstream_smk.simulate.truth import Truth, compute_truth


@pytest.fixture(scope="module", params=[0, 1, 12])
def truth(request: pytest.FixtureRequest) -> Truth:
    return compute_truth(AcquisitionSettings(seed=request.param))


def test_arrays_and_padding(truth: Truth):
    shape = tuple(truth["canvas_shape"].max(axis=0))
    assert truth["positions_px"].shape == (4, 9, 2)
    for name in ("surface_px", "orientation_deg", "dn", "aip", "tissue"):
        assert truth[name].shape == (4, *shape)
    assert truth["axis"].shape == (2, *shape, 3)
    assert truth["tissue_slice"].shape == truth["dn_true"].shape == (2, *shape)
    assert truth["voxel_um"].tolist() == [10, 10, 2.5]
    for mosaic, (height, width) in enumerate(truth["canvas_shape"]):
        assert np.isfinite(truth["aip"][mosaic, :height, :width]).all()
        assert np.isnan(truth["aip"][mosaic, height:]).all()
        assert not truth["tissue"][mosaic, :, width:].any()
    assert np.array_equal(np.isfinite(truth["surface_px"]), truth["tissue"])


def test_positions_start_at_zero_and_repeat(truth: Truth):
    positions = truth["positions_px"]
    assert positions.min(axis=1) == pytest.approx(0)
    for view in (0, 1):
        change = positions[view + 2] - positions[view]
        change -= change.mean(axis=0)
        assert np.sqrt((change**2).mean()) < 0.2 * np.sqrt(2) * 1.5


def test_a_quarter_is_background(truth: Truth):
    for tissue, shape in zip(truth["tissue"], truth["canvas_shape"], strict=True):
        assert 0.25 <= 1 - tissue.sum() / shape.prod() <= 0.55


def test_axis_varies_by_more_than_90_degrees(truth: Truth):
    for mosaic in range(4):
        angles = truth["orientation_deg"][mosaic][truth["tissue"][mosaic]]
        assert ((angles > -90) & (angles <= 90)).all()
        shares = np.histogram(angles, bins=18, range=(-90, 90))[0] / angles.size
        assert 10 * (shares > 0.005).sum() > 90


def test_birefringence_range(truth: Truth):
    tissue = truth["tissue"]
    assert truth["dn"][tissue].min() > 1e-4
    assert truth["dn"][tissue].max() < 1e-3
    assert 4e-4 < np.median(truth["dn"][tissue]) < 7e-4


def test_axis_agrees_with_the_normal_orientation(truth: Truth):
    axis = truth["axis"][truth["tissue_slice"]]
    assert np.linalg.norm(axis, axis=-1) == pytest.approx(1)
    phi = np.rad2deg(np.arctan2(axis[:, 2], -axis[:, 0]))
    orientation = truth["orientation_deg"][0::2][truth["tissue_slice"]]
    assert (phi + orientation + 90) % 180 - 90 == pytest.approx(0, abs=1e-6)
    # Seen from above, a fibre of elevation a shows cos(a)^2 of its birefringence.
    share = truth["dn"][0::2] / truth["dn_true"]
    assert share[truth["tissue_slice"]] == pytest.approx(1 - axis[:, 1] ** 2)


def test_affine_takes_the_normal_view_to_the_tilted_one(truth: Truth):
    for number in (0, 1):
        fixed, moving = truth["tissue"][2 * number], truth["tissue"][2 * number + 1]
        points = np.moveaxis(np.indices(fixed.shape), 0, -1)
        place = points @ truth["affine_A"][number].T + truth["affine_t"][number]
        place = np.moveaxis(place, -1, 0)
        seen = ndimage.map_coordinates(moving.astype(float), place, order=1)
        inside = ((place >= 0) & (place <= np.array(moving.shape)[:, None, None] - 1)).all(axis=0)
        # A few pixels of the outline change sides: they are sampled half a pixel off.
        assert np.mean((seen > 0.5)[inside] != fixed[inside]) < 0.01


def test_neighbouring_slices_resemble_each_other(truth: Truth):
    first, second = truth["aip"][0], truth["aip"][2]
    both = np.isfinite(first) & np.isfinite(second)
    assert 0.8 < np.corrcoef(first[both], second[both])[0, 1] < 0.999


def test_first_slice_does_not_depend_on_the_number_of_slices():
    alone = compute_truth(AcquisitionSettings(n_slices=1))
    several = compute_truth(AcquisitionSettings(n_slices=3))
    height, width = alone["tissue"].shape[1:]
    for name in ("orientation_deg", "surface_px", "aip"):
        np.testing.assert_array_equal(alone[name][0], several[name][0, :height, :width])


def test_focus_planes_start_at_zero(truth: Truth):
    for view in ("normal", "tilted"):
        plane = truth[f"focus_plane_{view}_px"]
        assert plane.shape == (48, 48)
        assert plane.min() == 0


@pytest.fixture(scope="module")
def three() -> Truth:
    return compute_truth(AcquisitionSettings(seed=1, mosaics_per_slice=3, gamma_deg=-12.0))


def test_three_mosaics_per_slice_share_their_positions(three: Truth):
    positions = three["positions_px"]
    assert positions.shape == (6, 9, 2)
    for first in (0, 3):
        np.testing.assert_array_equal(positions[first + 1], positions[first])
        np.testing.assert_array_equal(positions[first + 2], positions[first])
    assert np.abs(positions[3] - positions[0]).max() > 0
    assert three["tissue_slice"].shape[0] == three["axis"].shape[0] == 2
    np.testing.assert_array_equal(three["tissue_slice"][1], three["tissue"][3])
    assert three["canvas_shape"].shape == (6, 2)


def test_three_mosaics_are_tilted_both_ways(three: Truth):
    assert three["gamma_deg"] == 12
    assert three["gamma_deg_tiltNeg"] == -12
    for number in (0, 1):
        tissue, axis = three["tissue_slice"][number], three["axis"][number]
        direction = np.stack([-axis[..., 0], axis[..., 2], axis[..., 1]], axis=-1)
        points = np.moveaxis(np.indices(tissue.shape), 0, -1)[tissue]
        for mosaic, suffix in ((1, ""), (2, "_tiltNeg")):
            place = points @ three[f"affine_A{suffix}"][number].T
            place += three[f"affine_t{suffix}"][number]
            seen = three["dn"][3 * number + mosaic]
            y, x = np.rint(place).astype(int).T
            known = (y >= 0) & (x >= 0) & (y < seen.shape[0]) & (x < seen.shape[1])
            expected, _ = apparent_fibre(
                direction[tissue][known],
                three["dn_true"][number][tissue][known],
                float(three[f"gamma_deg{suffix}"]),
            )
            error = seen[y[known], x[known]] / expected - 1
            assert np.nanmedian(np.abs(error)) < 0.01  # half a pixel off at most
            assert np.isfinite(error).mean() > 0.95


def test_tilt_turns_the_slope_of_the_focus_plane(three: Truth):
    slopes = [
        three[f"focus_plane_{view}_px"][24, -1] - three[f"focus_plane_{view}_px"][24, 0]
        for view in ("normal", "tiltPos", "tiltNeg")
    ]
    assert slopes == pytest.approx([0, -2, 2])


def test_tilted_grid_with_rows_of_its_own():
    settings = AcquisitionSettings(n_slices=1, grid_rows=2, grid_rows_tilted=4, alines_tilted=30)
    truth = compute_truth(settings)
    positions = truth["positions_px"]
    assert positions.shape == (2, 12, 2)
    assert np.isfinite(positions).all(axis=-1).sum(axis=1).tolist() == [6, 12]
    assert np.isnan(positions[0, 6:]).all()
    heights, widths = truth["canvas_shape"].T
    assert heights[1] > heights[0]
    assert widths[1] < widths[0]
    # The tissue is under the middle of both.
    middle = truth["tissue"][1, heights[1] // 2, widths[1] // 2]
    assert middle
    assert truth["tissue"][0, heights[0] // 2, widths[0] // 2]
