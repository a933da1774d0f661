"""Light-sheet projects: how many strips have come, and which cannot be taken."""

from dataclasses import dataclass

from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.report.failures import Failure
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.lsm import LsmProjectState, lsm_flag_path
from opticstream_smk.trigger.counts import StateCounter


@dataclass(frozen=True)
class ChannelProgress:
    """One channel of a slice; ``total`` are the strips that the configuration expects."""

    where: str
    strips_ready: int
    strips_done: int
    strips_total: int


def channel_progress(config: Config) -> tuple[ChannelProgress, ...]:
    """Every channel that is not stitched yet."""
    bars = StateCounter(config).count().bars
    return tuple(ChannelProgress(bar.where, bar.ready, bar.done, bar.total) for bar in bars)


def strip_failures(layout: ProjectLayout) -> list[Failure]:
    """Strips whose folder the watcher cannot take."""
    found = []
    for place, state in LsmProjectState(layout).present():
        if state != "failed":
            continue
        try:
            record = read_flag(lsm_flag_path(layout, place, state))
        except CorruptInputError as error:
            stage, kind, told = "watch", "internal", str(error)
        else:
            if record is None:
                continue  # removed since the folder was listed
            stage, kind = record.stage, str(record.extra.get("kind", "data"))
            told = str(record.extra.get("error", "the record does not say why"))
        found.append(
            Failure(
                where=str(place),
                slice=place.slice,
                mosaic=None,
                batch=None,
                stage=stage,
                flag=lsm_flag_path(layout, place, "ready").name,
                kind=kind,
                attempts=1,
                max_attempts=None,
                next_try=None,
                error=told,
                about_raw=True,
                when="the watcher takes the folder once it is mended",
            )
        )
    return found
