"""The steps of solve_positions by themselves."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from opticstream_smk.mosaic.correlate import find_peak
from opticstream_smk.mosaic.prefilter import filter_tile
from opticstream_smk.mosaic.resolve import connected_islands, resolve_positions
from opticstream_smk.mosaic.stage_model import fit_stage_model
from opticstream_smk.mosaic.subpixel import refine_offset
from opticstream_smk.mosaic.subpixel_kernels import subtract_background


def texture(shape, seed):
    return 50 + 30 * ndi.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)


def views(offset, *, noise=0.0, seed=0, shape=(90, 80)):
    """Two views of one scene, the second at `offset` (y, x) px from the first."""
    scene = texture((260, 260), seed)
    rng = np.random.default_rng(seed + 1)
    result = []
    for shift in ((0, 0), offset):
        axes = [50 + s + np.arange(n) for s, n in zip(shift, shape, strict=True)]
        view = ndi.map_coordinates(scene, np.meshgrid(*axes, indexing="ij"), order=5)
        result.append(filter_tile(view + noise * rng.normal(size=shape)))
    return result


@pytest.mark.parametrize(
    "offset", [(0, 60), (70, 0), (66, -7), (-3, -58), (4, 64)], ids=lambda o: f"{o[0]},{o[1]}"
)
def test_peak_lies_at_the_offset(offset):
    a, b = views(offset, noise=1.0)
    expected = (offset[0] + 5.4, offset[1] - 3)
    peak = find_peak(a.band, b.band, expected, (9, 9))
    assert (peak.dy, peak.dx) == offset
    assert peak.ncc > 0.8
    assert peak.evidence > 20
    assert peak.margin > 20


def test_search_stops_at_its_range():
    a, b = views((0, 60), noise=1.0)
    peak = find_peak(a.band, b.band, (0, 45), (8, 8))
    assert abs(peak.dy) <= 8
    assert 37 <= peak.dx <= 53
    assert peak.evidence < 7


def test_chance_has_little_evidence():
    evidence = []
    for seed in range(40):
        a, _ = views((0, 0), seed=seed)
        b, _ = views((0, 0), seed=seed + 100)
        peak = find_peak(a.band, b.band, (0, 60), (12, 12))
        evidence.append(peak.evidence if peak else 0.0)
    assert np.quantile(evidence, 0.9) < 3
    assert max(evidence) < 7


def test_prior_decides_between_equal_places():
    repeated = filter_tile(np.tile(texture((90, 10), 0), (1, 8))).band
    far, near = ((0, centre) for centre in (49, 61))
    assert find_peak(repeated, repeated, near, (2, 14), prior_sigma=(1, 1)).dx == 60
    assert find_peak(repeated, repeated, far, (2, 14), prior_sigma=(1, 1)).dx == 50
    assert find_peak(repeated, repeated, near, (2, 14)).margin < 50


def test_no_peak_without_structure():
    a, _ = views((0, 60))
    empty = filter_tile(np.full((90, 80), 7.3)).band
    assert not empty.any()
    assert find_peak(a.band, empty, (0, 60), (9, 9)) is None
    assert find_peak(a.band, a.band, (0, 500), (9, 9)) is None


@pytest.mark.parametrize("offset", [(0.3, 60.5), (70.4, -0.25), (66.0, 6.75), (-2.5, -58.1)])
def test_refined_offset_is_exact_without_noise(offset):
    a, b = views(offset)
    start = (round(offset[0]), round(offset[1]))
    found = refine_offset(a, b, start)
    assert np.allclose(found.shift, offset, atol=0.02)


@pytest.mark.parametrize("is_noisy", [False, True])
def test_refined_offset_is_nearly_unbiased_and_its_covariance_holds(is_noisy):
    offset = (0.4, 60.3)
    errors, variances = [], []
    for seed in range(60):
        a, b = views(offset, noise=4.0, seed=seed)
        found = refine_offset(a, b, (0, 60), is_noisy=is_noisy)
        errors.append(found.shift - offset)
        variances.append(np.diag(found.covariance))
    spread = np.std(errors, axis=0)
    assert (np.abs(np.mean(errors, axis=0)) < 0.06).all()
    ratio = spread / np.sqrt(np.mean(variances, axis=0))
    assert ((ratio > 0.5) & (ratio < 1.6)).all()


def test_along_an_edge_the_offset_is_unknown():
    image = np.where(np.arange(80) % 20 < 10, 40.0, 60.0) * np.ones((90, 1))
    rng = np.random.default_rng(0)
    a, b = (filter_tile(image + rng.normal(size=image.shape)) for _ in range(2))
    covariance = refine_offset(a, b, (0, 60)).covariance
    assert covariance[0, 0] > 20 * covariance[1, 1]


def test_unrelated_or_thin_overlaps_are_not_refined():
    a, b = views((0, 60))
    assert refine_offset(a, b, (0, 77)) is None
    flat = filter_tile(np.full((90, 80), 3.0))
    assert refine_offset(flat, flat, (0, 60)) is None


def test_missing_pixels_do_not_move_the_offset():
    offset = (0.4, 60.3)
    a, b = views(offset)
    image = b.spline.copy()
    image[30:60, 2:12] = np.nan
    found = refine_offset(a, filter_tile(image), (0, 60))
    reference = refine_offset(a, filter_tile(b.spline), (0, 60))
    assert np.allclose(found.shift, reference.shift, atol=0.03)


def grid_pairs(rows, columns):
    cells = np.array([(r, c) for r in range(rows) for c in range(columns)])
    index = {tuple(cell): i for i, cell in enumerate(cells.tolist())}
    pairs = [
        (i, index[other])
        for (r, c), i in index.items()
        for other in ((r + 1, c), (r, c + 1))
        if other in index
    ]
    return cells, np.array(pairs)


def test_stage_model_survives_wrong_offsets():
    cells, pairs = grid_pairs(5, 6)
    coefficients = np.array([[96.0, 2.0], [-1.5, 77.0], [3.0, 0.5], [0.0, 0.0]])
    terms = np.column_stack([cells, cells[:, 1] % 2, cells[:, 0] % 2])
    true = terms @ coefficients
    rng = np.random.default_rng(0)
    offsets = true[pairs[:, 1]] - true[pairs[:, 0]] + rng.normal(0, 0.3, (len(pairs), 2))
    wrong = rng.choice(len(pairs), len(pairs) // 4, replace=False)
    offsets[wrong] += rng.uniform(-25, 25, (len(wrong), 2))
    model = fit_stage_model(
        cells[pairs[:, 0]],
        cells[pairs[:, 1]],
        offsets,
        nominal_step=np.array([100.0, 80.0]),
        step_sigma=np.array([5.0, 5.0]),
        prior_scatter_px=2.0,
    )
    assert np.allclose(model.coefficients, coefficients, atol=0.4)
    assert (model.scatter < 1.0).all()


def test_stage_model_without_offsets_is_nominal():
    model = fit_stage_model(
        np.empty((0, 2), dtype=int),
        np.empty((0, 2), dtype=int),
        np.empty((0, 2)),
        nominal_step=np.array([100.0, 80.0]),
        step_sigma=np.array([5.0, 5.0]),
        prior_scatter_px=2.0,
    )
    assert model.positions(np.array([[2, 3]])).tolist() == [[200, 240]]
    assert model.scatter.tolist() == [2, 2]


def test_resolver_rejects_a_wrong_offset():
    cells, pairs = grid_pairs(4, 4)
    expected = cells * 100.0
    rng = np.random.default_rng(0)
    true = expected + rng.normal(0, 3, expected.shape)
    offsets = true[pairs[:, 1]] - true[pairs[:, 0]] + rng.normal(0, 0.05, (len(pairs), 2))
    offsets[7] += (9, -4)
    covariances = np.tile(np.eye(2) * 0.05**2, (len(pairs), 1, 1))
    result = resolve_positions(expected, pairs, np.array([4.0, 4.0]), pairs, offsets, covariances)
    error = result.positions - true
    error -= error.mean(axis=0)
    assert np.abs(error).max() < 0.2
    assert result.weights[7] == 0
    assert np.delete(result.weights, 7).min() > 0.3
    assert np.allclose(result.residuals[7], (9, -4), atol=0.3)
    # One of several ways round the loops: better than one offset, which has 0.05 px.
    assert (result.offset_sigma(0, 1) < 0.05).all()
    assert (result.offset_sigma(0, 15) > result.offset_sigma(0, 1)).all()


def test_resolver_without_offsets_keeps_the_stage_model():
    cells, pairs = grid_pairs(2, 3)
    none = np.empty((0, 2))
    result = resolve_positions(
        cells * 100.0, pairs, np.ones(2), none.astype(int), none, np.empty((0, 2, 2))
    )
    assert np.allclose(result.positions, cells * 100.0)


def test_islands_are_numbered_by_size():
    labels, sizes = connected_islands(7, np.array([[0, 1], [3, 4], [4, 5]]))
    assert labels[[3, 4, 5]].tolist() == [0, 0, 0]
    assert labels[[0, 1]].tolist() == [1, 1]
    assert sorted(labels[[2, 6]].tolist()) == [2, 3]
    assert sizes.tolist() == [2, 2, 1, 3, 3, 3, 1]


def test_two_right_offsets_outvote_a_wrong_one_however_far_it_pulls():
    cells, pairs = grid_pairs(3, 3)
    true = cells * 100.0 + np.random.default_rng(1).normal(0, 1, (9, 2))
    offsets = true[pairs[:, 1]] - true[pairs[:, 0]]
    wrong = int(np.flatnonzero((pairs == (1, 4)).all(axis=1))[0])
    right = np.flatnonzero((pairs == 1).any(axis=1) & (np.arange(len(pairs)) != wrong))
    offsets[wrong] += (30, 12)
    covariances = np.tile(np.eye(2) * 0.05**2, (len(pairs), 1, 1))
    covariances[wrong] /= 1.5**2  # and is believed to be the best of all
    result = resolve_positions(
        cells * 100.0, pairs, np.array([2.0, 2.0]), pairs, offsets, covariances
    )
    assert result.weights[wrong] == 0
    assert result.weights[right].min() > 0.3
    error = result.positions - true
    assert np.abs(error - error.mean(axis=0)).max() < 0.2


def test_tiles_of_speckle_know_nothing_of_their_offset():
    rng = np.random.default_rng(3)
    a, b = (filter_tile(rng.gamma(40, 1, (90, 80))) for _ in range(2))
    found = refine_offset(a, b, (0, 50))
    assert found is None or np.sqrt(np.diag(found.covariance)).max() > 0.3


def test_where_only_one_corner_shows_tissue_the_uncertainty_is_that_of_the_corner():
    errors, variances = [], []
    for seed in range(30):
        scene = np.full((200, 200), 30.0)
        scene[50:75, 110:140] += texture((200, 200), seed)[50:75, 110:140] - 35
        rng = np.random.default_rng(seed)
        views = []
        for dx in (0.0, 60.3):
            axes = np.meshgrid(50 + np.arange(90), 50 + dx + np.arange(100), indexing="ij")
            view = ndi.map_coordinates(scene, axes, order=3)
            # Speckle is as strong as what it lies on.
            views.append(filter_tile(view * rng.gamma(100, 0.01, view.shape)))
        found = refine_offset(*views, (0, 60))
        errors.append(found.shift - (0, 60.3))
        variances.append(np.diag(found.covariance))
    ratio = np.std(errors, axis=0) / np.sqrt(np.median(variances, axis=0))
    assert ((ratio > 0.4) & (ratio < 1.8)).all()


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_background_is_a_running_mean(slope):
    image = np.random.default_rng(0).normal(size=(37, 29)).astype(np.float32)
    background = image.astype(np.float64)
    style = {"mode": "reflect", "reflect_type": "odd"} if slope else {"mode": "edge"}
    for _ in range(3):
        for axis in (1, 0):
            width = [(5, 5) if k == axis else (0, 0) for k in (0, 1)]
            padded = np.pad(background, width, **style)
            background = np.lib.stride_tricks.sliding_window_view(padded, 11, axis).mean(-1)
    expected = image - background
    removed = subtract_background(image, 11, slope)
    np.testing.assert_allclose(image, expected, atol=1e-5)
    np.testing.assert_allclose(removed, background, atol=1e-5)
