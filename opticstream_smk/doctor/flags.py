"""Flags against their products, their receipts and each other."""

from collections.abc import Iterator
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.doctor.finding import Finding
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan, makes_complex
from opticstream_smk.stages import NAMES, find_stage
from opticstream_smk.state import locks
from opticstream_smk.state.flags import Flag, read_flag
from opticstream_smk.state.places import (
    FLAGS,
    RECORDS,
    Place,
    batch_place,
    flag_path,
    tilemap_place,
)
from opticstream_smk.state.psoct import OctProjectState
from opticstream_smk.state.receipts import read_receipt, size_on_disk

_RECEIPTS = {"complex": "complex", "processed": "processed"}


def flag_findings(config: Config, plan: Plan, project: OctProjectState) -> Iterator[Finding]:
    """Flags that are not true, or made with other parameters than today's."""
    for place, name in project.present():
        if name in RECORDS:
            continue
        path = flag_path(project.layout, place, name)
        if name not in FLAGS[place.level]:
            yield Finding(str(path), "no stage writes such a flag", "Remove it.")
        elif locks.is_held(project.layout.lock(path)):
            continue
        else:
            yield from _flag_findings(config, plan, place, name, path)


def _flag_findings(
    config: Config, plan: Plan, place: Place, name: str, path: Path
) -> Iterator[Finding]:
    where = str(path)
    remedy = "--fix withdraws it and all downstream; snakemake makes it again"
    try:
        flag = read_flag(path)
    except CorruptInputError as error:
        yield Finding(where, str(error), remedy, (place, name))
        return
    if flag is None:
        return
    if name == "ready":
        return
    broken = [*_missing_products(plan.layout, flag), *_missing_receipts(plan, place, name, flag)]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        yield Finding(where, f"{broken[0]}{more}", remedy, (place, name))
        return
    for upstream, state in _upstream(config, plan, place, name):
        upstream_path = flag_path(plan.layout, upstream, state)
        if upstream_path.exists():
            continue
        if state == "ready":
            yield Finding(
                where,
                f"its queue entry {upstream_path.name} is missing",
                "`optic-trigger scan` writes it again; nothing is redone",
            )
        else:
            yield Finding(where, f"{upstream_path} is missing", remedy, (place, name))
            return
    yield from _drift(config, plan, place, flag, where)


def _missing_products(layout: ProjectLayout, flag: Flag) -> Iterator[str]:
    for output in flag.outputs:
        size = size_on_disk(layout.root / output.path)
        if size is None:
            yield f"{output.path} is missing"
        elif size != output.size:
            yield f"{output.path} has {size} bytes, {output.size} were written"


def _missing_receipts(plan: Plan, place: Place, name: str, flag: Flag) -> Iterator[str]:
    if place.level != "batch" or name not in _RECEIPTS or flag.extra.get("marked_by_hand"):
        return
    for image in flag.tiles.done:
        path = plan.layout.receipt(place.mosaic or 0, image, _RECEIPTS[name])
        if read_receipt(path) is None:
            yield f"the receipt {plan.layout.relative(path)} is missing or damaged"


def _upstream(config: Config, plan: Plan, place: Place, name: str) -> Iterator[tuple[Place, str]]:
    """What a flag was made from directly, of what must still be there."""
    per_slice = config.acquisition.mosaics_per_slice
    if place.level == "batch":
        own = name == "processed" and makes_complex(config)
        yield (place, "processed" if name == "qc" else "complex" if own else "ready")
    elif place.level == "mosaic" and place.mosaic:
        for batch in plan.batches(place.mosaic):
            yield (batch_place(place.mosaic, batch, per_slice), "processed")
        yield (tilemap_place(plan.acquisition(place.mosaic)), "solved")
    elif place.level == "slice" and place.slice:
        for mosaic in plan.mosaics(place.slice):
            yield (Place("mosaic", place.slice, mosaic), "stitched")


def _drift(config: Config, plan: Plan, place: Place, flag: Flag, where: str) -> Iterator[Finding]:
    """Finished with other parameters than today's: listed, never silently redone."""
    if flag.stage not in NAMES:
        return
    acquisition = place.acquisition or (
        plan.acquisition(place.mosaic) if place.mosaic else naming.NORMAL
    )
    if find_stage(flag.stage).params_sha256(config, acquisition) != flag.params_sha256:
        yield Finding(
            where,
            f"made with other parameters of {flag.stage} than the configuration has now",
            f"It is kept; `optic-trigger redo --from {flag.stage}` has it made again",
            advisory=True,
        )
