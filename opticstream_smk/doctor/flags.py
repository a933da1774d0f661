"""Flags against their products, their receipts and each other."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.doctor.archive import ArchiveDoctor
from opticstream_smk.doctor.finding import Finding
from opticstream_smk.errors import CorruptInputError, OpticStreamError
from opticstream_smk.io.disk import size_on_disk
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan, image_list
from opticstream_smk.stages import stage_of_flag
from opticstream_smk.stages.tilemap import read_tilemap
from opticstream_smk.state import locks
from opticstream_smk.state.flags import Flag, read_flag
from opticstream_smk.state.places import FLAGS, RECORDS, Place, flag_path
from opticstream_smk.state.psoct import OctProjectState
from opticstream_smk.state.receipts import read_receipt

_RECEIPTS = {"complex": "complex", "processed": "processed", "archived": "archived"}


def flag_findings(config: Config, plan: Plan, project: OctProjectState) -> Iterator[Finding]:
    """Flags that are not true, or made with other parameters than today's."""
    archive = ArchiveDoctor(config, plan.layout)
    for place, name in project.present():
        if name in RECORDS:
            continue
        path = flag_path(project.layout, place, name)
        if name not in FLAGS[place.level]:
            yield Finding(str(path), "no stage writes such a flag", "Remove it.")
        elif locks.is_held(project.layout.lock(path)):
            continue
        else:
            yield from _flag_findings(config, plan, archive, place, name, path)
    yield from archive.findings()


def _flag_findings(
    config: Config, plan: Plan, archive: ArchiveDoctor, place: Place, name: str, path: Path
) -> Iterator[Finding]:
    where = str(path)
    remedy = "--fix withdraws it and all downstream; snakemake makes it again"
    close_again = f"--fix withdraws it; `optic-trigger close --mosaic {place.mosaic}` closes again"
    try:
        flag = read_flag(path)
    except CorruptInputError as error:
        yield Finding(where, str(error), close_again if name == "closed" else remedy, (place, name))
        return
    if flag is None:
        return
    if name == "ready":
        return
    edited = set(_edited_templates(config, plan, place, flag))
    for template in edited:
        yield _edited(place, template)
    broken = [
        *_missing_products(plan.layout, flag, kept=edited),
        *_missing_receipts(plan, place, name, flag),
    ]
    if broken and name == "archived":
        if archive.explains(place, flag):
            return
        lost_links = archive.relink(place, flag, where)
        if lost_links is not None:
            yield lost_links
            return
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        yield Finding(where, f"{broken[0]}{more}", remedy, (place, name))
        return
    try:
        upstream_flags = list(_upstream(plan, place, name, flag))
        late = list(_late_tiles(plan, place, name, where))
    except CorruptInputError:
        return  # a flag of the same mosaic cannot be read; its own finding takes this one along
    for upstream, state in upstream_flags:
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
            mend = close_again if state == "closed" else remedy
            yield Finding(where, f"{upstream_path} is missing", mend, (place, name))
            return
    yield from late
    yield from _drift(config, plan, place, name, flag, where)


def _edited_templates(config: Config, plan: Plan, place: Place, flag: Flag) -> Iterator[Path]:
    """Coordinate templates that a person has changed since, and that can be used."""
    layout = plan.layout
    if place.level == "tilemap" and place.acquisition is not None:
        path, acquisition, own_of = layout.template(place.acquisition), place.acquisition, None
    elif place.level == "mosaic" and place.mosaic is not None:
        path, acquisition = layout.mosaic_template(place.mosaic), plan.acquisition(place.mosaic)
        own_of = place.mosaic
    else:
        return
    written = [output.size for output in flag.outputs if layout.root / output.path == path]
    if not written or size_on_disk(path) in (None, *written):
        return
    with contextlib.suppress(OpticStreamError):
        read_tilemap(config, layout, acquisition, own_of=own_of)
        yield path


def _edited(place: Place, template: Path) -> Finding:
    of = f" --mosaic {place.mosaic}" if place.mosaic else ""
    return Finding(
        str(template),
        "was edited since the coordinates were solved",
        f"It is kept. Where mosaics were stitched before that: `optic-trigger redo --from "
        f"stitch_enface{of}`",
        advisory=True,
    )


def _missing_products(
    layout: ProjectLayout, flag: Flag, *, kept: Collection[Path]
) -> Iterator[str]:
    for output in flag.outputs:
        if layout.root / output.path in kept:
            continue
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


def _upstream(plan: Plan, place: Place, name: str, flag: Flag) -> Iterator[tuple[Place, str]]:
    """What a flag was made from directly, of what must still be there."""
    for upstream, state in plan.inputs(place, name):
        # A volume may have been stitched without a focus plane.
        if upstream.level == "focus" and flag.extra.get("focus_sha256") is None:
            continue
        yield upstream, state
    if flag.extra.get("closed"):
        yield (place, "closed")
    if name == "stitched" and "template" in flag.extra:
        yield (place, "coordinates")


def _late_tiles(plan: Plan, place: Place, name: str, where: str) -> Iterator[Finding]:
    """Tiles that a mosaic was closed without and that are there by now."""
    if (place.level, name) != ("mosaic", "closed") or not place.mosaic:
        return
    closed = plan.closed_without(place.mosaic)
    late = sorted(closed.difference(plan.missing_tiles(place.mosaic)))
    if late:
        yield Finding(
            where,
            f"accepts the mosaic without images {image_list(late)}, which are ready by now",
            f"Nothing is wrong; `optic-trigger close --mosaic {place.mosaic}` brings it up to "
            "date, `--undo` withdraws it",
            advisory=True,
        )


def _drift(
    config: Config, plan: Plan, place: Place, name: str, flag: Flag, where: str
) -> Iterator[Finding]:
    """Finished with other parameters than today's: listed, never silently redone."""
    stage = stage_of_flag(place.level, name)
    if stage is None or flag.stage != stage.name:
        return
    acquisition = place.acquisition or (
        plan.acquisition(place.mosaic) if place.mosaic else naming.NORMAL
    )
    if stage.params_sha256(config, acquisition) != flag.params_sha256:
        yield Finding(
            where,
            f"made with other parameters of {flag.stage} than the configuration has now",
            f"It is kept; `optic-trigger redo --from {flag.stage}` has it made again",
            advisory=True,
        )
