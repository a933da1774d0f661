"""The products of a project against the truth of its synthetic acquisition."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.simulate import compare
from opticstream_smk.stages.tilemap import stitched_tilemap

Truth = dict[str, NDArray[np.generic]]


def judge_project(config: Config, truth_path: Path) -> list[tuple[str, compare.Comparison]]:
    """Compare everything that is finished: tiles, mosaics, focus planes, slices.

    Parameters
    ----------
    truth_path
        ``truth.npz`` of :func:`opticstream_smk.simulate.simulate_psoct`.

    Returns
    -------
    list of (where, comparison)

    Raises
    ------
    IncompleteInputError
        No truth there, or nothing is finished yet.
    """
    truth = _load(truth_path)
    plan = Plan(config, project_layout(config))
    rows: list[tuple[str, compare.Comparison]] = []
    n_mosaics = truth["positions_px"].shape[0]
    for mosaic in range(1, n_mosaics + 1):
        where = f"mosaic {mosaic:03d}"
        batches = plan.counted_batches(mosaic)
        if all(plan.layout.batch_flag(mosaic, b, "processed").exists() for b in batches):
            rows += [(where, row) for row in _tiles(plan, truth, mosaic)]
        if plan.layout.mosaic_flag(mosaic, "stitched").exists():
            rows += [(where, row) for row in _stitched(plan, truth, mosaic)]
    for acquisition in config.acquisition.labels:
        known = truth.get(f"focus_plane_{acquisition}_px")
        if known is not None and plan.layout.focus_flag(acquisition).exists():
            plane = nifti.read_image(plan.layout.focus_plane(acquisition))
            row = compare.compare_focus(plane, np.asarray(known, np.float64))
            rows.append((acquisition, row))
    for slice_ in range(1, truth["axis"].shape[0] + 1):
        if plan.layout.slice_flag(slice_, "registered").exists():
            rows += [(f"slice {slice_:02d}", row) for row in _registered(plan, truth, slice_)]
    if not rows:
        raise IncompleteInputError(
            f"no mosaic of {plan.layout.root} is finished; run `optic-trigger scan` and snakemake "
            "first"
        )
    return rows


def _load(path: Path) -> Truth:
    try:
        with np.load(path) as content:
            return {name: content[name] for name in content.files}
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path} does not exist; only simulated acquisitions have a truth. Name it by --truth."
        ) from error
    except (OSError, ValueError) as error:
        raise CorruptInputError(f"{path} cannot be read: {error}; simulate again") from error


def _map(truth: Truth, name: str, index: int) -> NDArray[np.float64]:
    return np.asarray(truth[name][index], np.float64)


def _tiles(plan: Plan, truth: Truth, mosaic: int) -> list[compare.Comparison]:
    """All tiles of a mosaic together, each on its own patch of the truth."""
    made = ("surf", *plan.config.processing.modalities)
    judges: dict[str, tuple[str, Callable[..., compare.Comparison]]] = {
        "surf": ("surface_px", compare.compare_surface),
        "ori": ("orientation_deg", compare.compare_orientation),
        "biref": ("dn", compare.compare_dn),
    }
    names = {modality: name for modality, (name, _) in judges.items() if modality in made}
    found: dict[str, list[NDArray[np.float64]]] = {modality: [] for modality in names}
    known: dict[str, list[NDArray[np.float64]]] = {modality: [] for modality in names}
    missing = plan.missing_tiles(mosaic)
    for image in plan.images(mosaic):
        if image in missing:
            continue
        position = _map(truth, "positions_px", mosaic - 1)[image - 1]
        for modality, name in names.items():
            path = plan.layout.processed_tile(mosaic, image, modality)
            tile = np.asarray(nifti.read_image(path), np.float64)
            shape = (tile.shape[0], tile.shape[1])
            found[modality].append(tile)
            known[modality].append(
                compare.truth_patch(_map(truth, name, mosaic - 1), position, shape)
            )
    return [judges[m][1](np.stack(found[m]), np.stack(known[m])) for m in names]


def _stitched(plan: Plan, truth: Truth, mosaic: int) -> list[compare.Comparison]:
    tilemap = stitched_tilemap(plan, mosaic)
    solved = tilemap.positions_px
    known = _map(truth, "positions_px", mosaic - 1)[: len(solved)]
    aip = nifti.read_image(plan.layout.stitched(mosaic, "aip_nomask"))
    covered = tilemap.coverage()
    shift = np.median(known - solved, axis=0)
    rows = []
    if tilemap.is_anchored.sum() > 1:
        rows.append(compare.compare_positions(solved, known, use=tilemap.is_anchored))
    return [
        *rows,
        compare.compare_aip(np.where(covered, aip, np.nan), shift, _map(truth, "aip", mosaic - 1)),
    ]


def _registered(plan: Plan, truth: Truth, slice_: int) -> list[compare.Comparison]:
    normal = plan.mosaics(slice_)[0]
    axis = np.swapaxes(
        np.asarray(
            nifti.read_array(plan.layout.registered_product(slice_, "3daxis.nii")), np.float64
        ),
        0,
        1,
    )
    tilemap = stitched_tilemap(plan, normal)
    known = _map(truth, "positions_px", normal - 1)[: len(tilemap.positions_px)]
    shift = np.median(known - tilemap.positions_px, axis=0)
    shape = (axis.shape[0], axis.shape[1])
    truth_axis = np.stack(
        [
            compare.truth_patch(_map(truth, "axis", slice_ - 1)[..., part], shift, shape)
            for part in range(3)
        ],
        axis=-1,
    )
    return [
        compare.compare_inplane_axis(axis, truth_axis),
        compare.compare_axis(axis, truth_axis),
    ]
