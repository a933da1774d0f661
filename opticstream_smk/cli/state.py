"""``optic-trigger state``: show, mark or reset one level."""

import argparse
from typing import TYPE_CHECKING, Any

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json
from opticstream_smk.errors import ConfigError, IncompleteInputError

if TYPE_CHECKING:
    from opticstream_smk.config import Config
    from opticstream_smk.state.places import Place
    from opticstream_smk.state.psoct import NodeView

# Names of OpticStream's own state fields, and what they are called here.
ALIASES = {
    "complexed": "complex",
    "volume_processed": "processed",
    "enface_processed": "processed",
    "enface_stitched": "stitched",
}
STATUSES = ("pending", "running", "completed", "failed")
_TRUE, _FALSE = ("true", "1", "yes", "y"), ("false", "0", "no", "n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="flags and records of a level")
    mark = actions.add_parser(
        "mark",
        help="set a flag or a status by hand; a flag only if all its products are there",
    )
    reset = actions.add_parser("reset", help="withdraw all flags of a level, with all downstream")
    for action in (show, mark, reset):
        add_config(action)
        action.add_argument("--slice", type=int, metavar="S")
        action.add_argument("--mosaic", type=int, metavar="M")
        action.add_argument("--batch", type=int, metavar="B")
    add_format(show)
    mark.add_argument("field", help=f"a flag such as processed, or {', '.join(STATUSES)}")
    mark.add_argument("value", nargs="?", help="true or false; a status takes none")
    reset.add_argument("-a", "--all", action="store_true", help="the whole project")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    config = given_config(arguments)
    if arguments.action == "show":
        return _show(config, arguments)
    if arguments.action == "mark":
        return _mark(config, arguments)
    return _reset(config, arguments)


def _place(config: "Config", arguments: argparse.Namespace) -> "Place | None":
    """The level that the ids name; None is the project."""
    from opticstream_smk.state.places import batch_place, mosaic_place, slice_place

    per_slice = config.acquisition.mosaics_per_slice
    if arguments.batch is not None:
        if arguments.mosaic is None:
            raise ConfigError("--batch needs --mosaic: all mosaics have the same batch numbers")
        return batch_place(arguments.mosaic, arguments.batch, per_slice)
    if arguments.mosaic is not None:
        return mosaic_place(arguments.mosaic, per_slice)
    return slice_place(arguments.slice) if arguments.slice is not None else None


def _show(config: "Config", arguments: argparse.Namespace) -> int:
    from opticstream_smk.plan import project_state

    state = project_state(config)
    place = _place(config, arguments)
    view: NodeView | None
    if place is None:
        view = state.peek_project()
    elif place.level == "batch":
        view = state.peek_batch(arguments.mosaic, arguments.batch)
    elif place.level == "mosaic":
        view = state.peek_mosaic(arguments.mosaic)
    else:
        view = state.peek_slice(arguments.slice)
    if view is None:
        raise IncompleteInputError(f"{place} has no state yet in {config.project.dir}")
    if arguments.format == "json":
        print_json(_as_json(view))
    else:
        _print(view, "")
    return 0


def _as_json(view: "NodeView") -> dict[str, Any]:
    return {
        "place": str(view.place or "project"),
        "status": view.status,
        "flags": {name: flag.as_json() for name, flag in view.flags.items()},
        "children": [_as_json(child) for child in view.children],
    }


def _print(view: "NodeView", indent: str) -> None:
    flags = "  ".join(
        f"{name} {flag.finished.astimezone():%Y-%m-%d %H:%M:%S}"
        for name, flag in view.flags.items()
    )
    print(f"{indent}{view.place or 'project'}: {view.status}  {flags}".rstrip())
    for child in view.children:
        _print(child, indent + "  ")


def _reset(config: "Config", arguments: argparse.Namespace) -> int:
    from opticstream_smk.plan import project_state
    from opticstream_smk.state.places import FLAGS, RECORDS

    place = _place(config, arguments)
    if (place is None) != arguments.all:
        raise ConfigError("name one level by --slice, --mosaic, --batch, or the project by --all")
    with project_state(config).open_project() as project:
        found = [(p, name) for p, name in project.present() if place is None or _within(p, place)]
        if not found:
            raise IncompleteInputError(f"{place or 'the project'} has no flags to reset")
        for p, name in found:
            if name in FLAGS[p.level]:
                project.node(p).withdraw(name)
            elif name in RECORDS:
                project.node(p).drop(name)
        withdrawn = [str(n.path(name)) for n in project.changed() for name in sorted(n.withdrawn)]
    for path in withdrawn:
        print(f"withdrawn  {path}")
    print("next: optic-trigger scan, then snakemake --profile zircon")
    return 0


def _within(inner: "Place", outer: "Place") -> bool:
    """Whether a place is another one or lies in it."""
    ids = ("slice", "mosaic", "batch")
    return all(
        getattr(outer, name) is None or getattr(inner, name) == getattr(outer, name) for name in ids
    )


def _mark(config: "Config", arguments: argparse.Namespace) -> int:
    from opticstream_smk.state.places import FLAGS

    place = _place(config, arguments)
    if place is None:
        raise ConfigError("name what to mark by --slice, --mosaic or --mosaic with --batch")
    field = ALIASES.get(arguments.field, arguments.field)
    if field in STATUSES:
        if arguments.value is not None:
            raise ConfigError(f"{field} takes no value; found {arguments.value!r}")
        return _mark_status(config, place, field)
    if field not in FLAGS[place.level]:
        raise ConfigError(
            f"{place} has no flag {arguments.field!r}; expected one of "
            f"{', '.join((*FLAGS[place.level], *STATUSES))}"
        )
    value = (arguments.value or "").lower()
    if value not in (*_TRUE, *_FALSE):
        raise ConfigError(f"{field} needs a value, true or false; found {arguments.value!r}")
    return _mark_done(config, place, field) if value in _TRUE else _unmark(config, place, field)


def _mark_status(config: "Config", place: "Place", status: str) -> int:
    from opticstream_smk.plan import project_state
    from opticstream_smk.state.flags import Flag, now
    from opticstream_smk.state.host import identity
    from opticstream_smk.state.places import DONE, flag_path

    last = DONE[place.level]
    if status == "completed":
        return _mark_done(config, place, last)
    state = project_state(config)
    record = {"running": "started", "failed": "failed"}.get(status)
    with state.open(place) as node:
        node.withdraw(last)
        node.drop("failed")
        if record:
            at = now()
            node.add(
                record,
                Flag(
                    flag=flag_path(state.layout, place, record).name,
                    project=config.project.name,
                    **place.ids,
                    stage="mark",
                    started=at,
                    finished=at,
                    duration_s=0.0,
                    extra={**identity(), "kind": "operator", "error": "marked by hand"},
                ),
            )
    print(f"{place}: {status}")
    return 0


def _unmark(config: "Config", place: "Place", field: str) -> int:
    from opticstream_smk.plan import project_state

    with project_state(config).open(place) as node:
        present = node.has(field)
        node.withdraw(field)
    print(f"{place}: {field} {'withdrawn' if present else 'was not set'}")
    return 0


def _mark_done(config: "Config", place: "Place", field: str) -> int:
    """Write a flag by hand: only a flag whose products are all there is true."""
    from opticstream_smk.io.disk import size_on_disk
    from opticstream_smk.plan import project_state
    from opticstream_smk.stages import stage_of_flag
    from opticstream_smk.stages.stage import stage_context
    from opticstream_smk.state.failures import drop_failure
    from opticstream_smk.state.flags import Flag, file_outputs, now

    stage = stage_of_flag(place.level, field)
    if stage is None:
        command = f"close --mosaic {place.mosaic}" if field == "closed" else "scan"
        raise ConfigError(f"{field} is written by `optic-trigger {command}` only; run it")
    if field == "archived":
        raise ConfigError(
            "archived says that files were read back from the archive, by which raw files may be "
            f"deleted; it is not set by hand. Run `optic-stage {stage.name} --mosaic "
            f"{place.mosaic} --batch {place.batch}`: what is there is verified and kept."
        )
    context = stage_context(stage, config, place)
    products = stage.products(context)
    missing = [path for path in products if size_on_disk(path) is None]
    if missing:
        raise IncompleteInputError(
            f"{place} cannot be marked {field}: {len(missing)} of {len(products)} products are "
            f"missing, such as {missing[0]}. Run `optic-stage {stage.name}` instead."
        )
    at = now()
    with project_state(config).open(place) as node:
        node.add(
            field,
            Flag(
                flag=node.path(field).name,
                project=config.project.name,
                **place.ids,
                stage=stage.name,
                started=at,
                finished=at,
                duration_s=0.0,
                params_sha256=context.params_sha256,
                outputs=file_outputs(context.layout, products),
                extra={"marked_by_hand": True},
            ),
        )
        drop_failure(node, node.path(field).name)
    print(f"{place}: {field} set, {len(products)} products")
    return 0
