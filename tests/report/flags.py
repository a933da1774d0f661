"""Flags and records as the stages and the watcher leave them, without their work."""

from contextlib import contextmanager
from datetime import timedelta

from opticstream_smk.plan import project_layout
from opticstream_smk.state import locks
from opticstream_smk.state.flags import Flag, TileCount, now, write_flag
from opticstream_smk.state.host import boot_id, host_name
from opticstream_smk.state.places import (
    batch_place,
    flag_path,
    mosaic_place,
    slice_place,
    tilemap_place,
)
from opticstream_smk.trigger.snapshot import Snapshot, write_snapshot


def put(config, place, state, *, stage="scan", lacking=(), **extra):
    """Write a flag or record; returns its path."""
    layout = project_layout(config)
    path = flag_path(layout, place, state)
    rows = config.acquisition.grid_size_y
    images = range((place.batch - 1) * rows + 1, place.batch * rows + 1) if place.batch else ()
    at = now()
    flag = Flag(
        flag=path.name, project="p", **place.ids, stage=stage, started=at, finished=at,
        duration_s=12.3, extra=extra,
        tiles=TileCount(done=tuple(i for i in images if i not in lacking), missing=tuple(lacking)),
    )  # fmt: skip
    write_flag(path, flag)
    return path


def ready(config, mosaic, batch, **kwargs):
    return put(config, batch_place(mosaic, batch), "ready", **kwargs)


def processed(config, mosaic, batch):
    for state, stage in (("ready", "scan"), ("complex", "convert_complex"),
                         ("processed", "process_tiles"), ("qc", "qc_tiles")):  # fmt: skip
        put(config, batch_place(mosaic, batch), state, stage=stage)


def finished_slice(config, slice_=1):
    for mosaic in (2 * slice_ - 1, 2 * slice_):
        for batch in (1, 2):
            processed(config, mosaic, batch)
        put(config, mosaic_place(mosaic), "coordinates", stage="solve_coordinates")
        put(config, mosaic_place(mosaic), "stitched", stage="stitch_enface")
    for label in ("normal", "tilted"):
        put(config, tilemap_place(label), "solved", stage="solve_coordinates", template_slice=1)
    put(config, slice_place(slice_), "registered", stage="register_slice")


def failed(config, place, *, state="processed", kind="data", attempts=1, wait_s=240.0,
           error="a tile is damaged", stage="process_tiles", flag=None):  # fmt: skip
    """A record of a failure; ``wait_s`` None: set aside."""
    next_try = None if wait_s is None else (now() + timedelta(seconds=wait_s)).isoformat()
    name = flag or flag_path(project_layout(config), place, state).name
    return put(config, place, "failed", stage=stage, kind=kind, attempts=attempts,
               error=error, next_try=next_try, flag=name)  # fmt: skip


@contextmanager
def watched(config, **snapshot):
    """This process as the watcher of a project."""
    layout = project_layout(config)
    with locks.hold(layout.watcher_lock):
        content = {"host": host_name(), "boot_id": boot_id(), "pid": 4242,
                   "started": now().isoformat(), **snapshot}  # fmt: skip
        write_snapshot(layout, Snapshot.model_validate(content))
        yield


@contextmanager
def working(config, place, state):
    """This process as the stage that makes a flag."""
    layout = project_layout(config)
    with locks.hold(layout.lock(flag_path(layout, place, state))):
        yield
