"""Mosaics that are accepted without the tiles that will not come."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError, IncompleteInputError
from opticstream_smk.plan import Plan, image_list, project_layout, project_state
from opticstream_smk.state import locks
from opticstream_smk.state.flags import Flag, TileCount, now, read_flag
from opticstream_smk.state.host import operator
from opticstream_smk.state.places import FLAGS, Place, batch_place, flag_path, mosaic_place
from opticstream_smk.trigger.batches import RawBatch
from opticstream_smk.trigger.discover import discover
from opticstream_smk.trigger.ready import close_batches


@dataclass(frozen=True)
class Closed:
    """What closing a mosaic did, or withdrawing that.

    Attributes
    ----------
    missing
        Images that the mosaic is made without.
    entered
        Incomplete batches that are ready now.
    withdrawn
        Flags that are not true any more, as paths.
    """

    mosaic: int
    missing: tuple[int, ...]
    entered: tuple[int, ...] = ()
    withdrawn: tuple[str, ...] = ()


def close_mosaic(
    config: Config, mosaic: int, *, missing: Collection[int] | None = None, reason: str = ""
) -> Closed:
    """Accept a mosaic without the tiles that are missing now.

    A mosaic that was closed without other tiles is closed anew.

    Parameters
    ----------
    missing
        The images that are expected to be missing; must be right. None: whatever is missing.

    Raises
    ------
    ConfigError
        Nothing is missing, or something else than was said.
    IncompleteInputError
        The raw tiles cannot be seen, or one of them is wrong, or the mosaic is being stitched.
    """
    plan = Plan(config, project_layout(config))
    found = find_missing(plan, mosaic)
    total = len(plan.images(mosaic))
    if not found:
        undo = f"; --undo withdraws {plan.layout.mosaic_flag(mosaic, 'closed').name}"
        raise ConfigError(
            f"mosaic {mosaic:03d} lacks none of its {total} tiles, so there is nothing to close"
            + (undo if plan.closed_without(mosaic) else "")
        )
    if missing is not None and set(missing) != set(found):
        raise ConfigError(
            f"mosaic {mosaic:03d}: --missing {image_list(missing)} is not what is missing. "
            f"{len(found)} of {total} tiles are: {image_list(found)}. If they will not come: "
            f"optic-trigger close --mosaic {mosaic} --missing {image_list(found)}"
        )
    withdrawn = _withdraw(config, plan, list(_not_true_without(plan, mosaic, found)))
    entered = close_batches(config, mosaic, found)
    place = mosaic_place(mosaic, config.acquisition.mosaics_per_slice)
    at = now()
    done = tuple(image for image in plan.images(mosaic) if image not in found)
    with project_state(config).open(place) as node:
        node.add(
            "closed",
            Flag(
                flag=node.path("closed").name,
                project=config.project.name,
                **place.ids,
                stage="close",
                started=at,
                finished=at,
                duration_s=0.0,
                tiles=TileCount(done=done, missing=tuple(found)),
                extra={"missing": found, "by": operator(), "reason": reason},
            ),
        )
    return Closed(mosaic, tuple(found), tuple(entered), withdrawn)


def reopen_mosaic(config: Config, mosaic: int) -> Closed:
    """Withdraw ``.closed`` with what was made because of it; receipts keep the work.

    Raises
    ------
    ConfigError
        The mosaic is not closed.
    IncompleteInputError
        It is being stitched.
    """
    plan = Plan(config, project_layout(config))
    closed = plan.closed_without(mosaic)
    if not closed:
        raise ConfigError(f"mosaic {mosaic:03d} is not closed, so there is nothing to undo")
    place = mosaic_place(mosaic, config.acquisition.mosaics_per_slice)
    flags = [(place, "closed"), *_not_true_without(plan, mosaic, ())]
    return Closed(mosaic, (), withdrawn=_withdraw(config, plan, flags))


def find_missing(plan: Plan, mosaic: int) -> list[int]:
    """Images of a mosaic that have no raw tile, and of which nothing was made.

    The raw tile of a batch that was processed may be gone; one that was moved away before, because
    it is bad, is missing.

    Raises
    ------
    IncompleteInputError
        No raw tile of the mosaic can be seen, or a tile of it is there and wrong.
    """
    found = discover(plan.config)
    own = [batch for batch in found.batches if batch.mosaic == mosaic]
    away = [text for about, text in found.problems.items() if _is_source(about)]
    if away or not own:
        folders = ", ".join(str(source.dir) for source in plan.config.acquisition.sources)
        raise IncompleteInputError(
            away[0]
            if away
            else f"no raw tile of mosaic {mosaic:03d} can be seen in {folders}, so nobody can say "
            "which are missing. Is the disk mounted, and the number right?"
        )
    _refuse_wrong(own)
    there = {image for batch in own for image in batch.images}
    for batch in plan.ready_batches(mosaic):
        flags = [plan.layout.batch_flag(mosaic, batch, made) for made in ("complex", "processed")]
        if any(flag.exists() for flag in flags):
            ready = read_flag(plan.layout.batch_flag(mosaic, batch, "ready"))
            there |= set(ready.tiles.done if ready else ())
    return [image for image in plan.images(mosaic) if image not in there]


def _is_source(about: object) -> bool:
    return isinstance(about, tuple) and about[0] == "source"


def _refuse_wrong(batches: list[RawBatch]) -> None:
    problems = [problem for batch in batches for problem in batch.problems]
    if problems:
        raise IncompleteInputError(
            f"{problems[0]} A tile that is there is not missing: mend it, or move it out of the "
            "source folder if it will not come again."
        )


def _not_true_without(
    plan: Plan, mosaic: int, missing: Collection[int]
) -> Iterator[tuple[Place, str]]:
    """Flags of a mosaic that were made without other tiles than those that are missing."""
    per_slice = plan.config.acquisition.mosaics_per_slice
    for state in ("coordinates", "stitched"):
        made = read_flag(plan.layout.mosaic_flag(mosaic, state))
        if made is not None and set(made.tiles.missing) != set(missing):
            yield mosaic_place(mosaic, per_slice), state
    for batch in plan.ready_batches(mosaic):
        ready = read_flag(plan.layout.batch_flag(mosaic, batch, "ready"))
        own = set(missing).intersection(plan.images_of_batch(mosaic, batch))
        if ready is not None and set(ready.tiles.missing) != own:
            yield batch_place(mosaic, batch, per_slice), "ready"


def _withdraw(config: Config, plan: Plan, flags: Sequence[tuple[Place, str]]) -> tuple[str, ...]:
    """Withdraw flags with all downstream, unless a stage is at work there: its flag would come."""
    with project_state(config).open_project() as project:
        for place, state in flags:
            project.node(place).withdraw(state)
        for path in _written_downstream(plan, flags):
            if locks.is_held(lock := plan.layout.lock(path)):
                raise IncompleteInputError(
                    f"{path.name} of {plan.layout.root} is being made by "
                    f"{locks.describe_holder(lock)}, with the tiles that were there before. Wait "
                    "for it, or stop it, then close again."
                )
        return tuple(str(n.path(name)) for n in project.changed() for name in sorted(n.withdrawn))


def _written_downstream(plan: Plan, flags: Sequence[tuple[Place, str]]) -> set[Path]:
    """Files of all flags that stages make of these, whether they are there or not."""
    paths: set[Path] = set()
    for place, state in flags:
        later = FLAGS[place.level][FLAGS[place.level].index(state) + 1 :]
        paths |= {flag_path(plan.layout, place, name) for name in later}
        if place.mosaic and place.slice:
            made = FLAGS["mosaic"][FLAGS["mosaic"].index("coordinates") :]
            paths |= {plan.layout.mosaic_flag(place.mosaic, name) for name in made}
            paths.add(plan.layout.slice_flag(place.slice, "registered"))
    return paths
