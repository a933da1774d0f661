"""What is ready, what can be asked for, and what waits for what.

The Snakefile, the watcher, ``scan``, ``status`` and ``doctor`` all ask here; nothing else counts
batches.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.config.run import Goal
from opticstream_smk.errors import ConfigError, IncompleteInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import InputFile, read_flag
from opticstream_smk.state.places import Place, batch_place, flag_path, present_states
from opticstream_smk.state.psoct import OctRepository, OctState


def project_layout(config: Config) -> ProjectLayout:
    """Layout of the configured project."""
    return ProjectLayout(config.project.dir)


def project_state(config: Config) -> OctState:
    """State of the configured project; its events carry the grid."""
    scan = config.acquisition

    def grid(place: Place) -> dict[str, Any]:
        sizes: dict[str, Any] = {}
        acquisition = place.acquisition or (
            naming.acquisition_of_mosaic(place.mosaic, scan.mosaics_per_slice)
            if place.mosaic
            else None
        )
        if acquisition:
            columns = scan.columns(acquisition)
            sizes = {
                "grid_size_x": columns,
                "grid_size_y": scan.rows(acquisition),
                "total_batches": columns,
                "acq": acquisition,
            }
        return sizes

    repository = OctRepository(scan.mosaics_per_slice, grid)
    return OctState(project_layout(config), repository)


def makes_complex(config: Config) -> bool:
    """Whether batches have complex tiles of their own."""
    return config.processing.complex == "keep" and not config.acquisition.maps_are_input


def runs_matlab(config: Config) -> bool:
    """Whether psoct-toolbox computes; maps of the acquisition host are linked in any case."""
    return config.processing.engine != "native" and not config.acquisition.maps_are_input


def makes_tile_qc(config: Config) -> bool:
    """Whether batches have a contact sheet; it needs the volumes."""
    processing = config.processing
    volumes = processing.save_volume_outputs and not config.acquisition.maps_are_input
    return processing.tile_qc and volumes


def makes_archive(config: Config) -> bool:
    """Whether raw files are archived."""
    return config.archive.dir is not None


def template_params(config: Config, acquisition: str) -> dict[str, object]:
    """The geometry of a mosaic: what a coordinate template is valid for."""
    scan = config.acquisition
    return {
        "grid_size_x": scan.columns(acquisition),
        "grid_size_y": scan.rows(acquisition),
        "grid_type": scan.grid_type,
        "grid_order": scan.grid_order,
        "tile_size_x": scan.alines(acquisition),
        "tile_size_y": scan.tile_size_y,
        "tile_overlap_percent": scan.tile_overlap_percent,
    }


def image_list(images: Iterable[int]) -> str:
    """Image numbers as messages and command lines have them."""
    return ",".join(map(str, sorted(images)))


def _kind(file: InputFile) -> str:
    return str((file.model_extra or {}).get("modality", "spectral"))


@dataclass(frozen=True)
class Target:
    """A file that snakemake can be asked for.

    Attributes
    ----------
    goal
        Which of ``run.goals`` it belongs to.
    path
        A flag or a picture, relative to the project folder.
    """

    goal: Goal
    place: Place
    path: str


@dataclass(frozen=True)
class Plan:
    """A snapshot of what a project can do next.

    It looks when it is asked, at the mosaic that it is asked about and once: what a question about
    one mosaic costs does not grow with the finished ones.

    Attributes
    ----------
    config, layout
        The project.
    """

    config: Config
    layout: ProjectLayout

    # ------------------------------------------------------------------------ what is there
    @cached_property
    def present_mosaics(self) -> tuple[int, ...]:
        """Every mosaic that has a folder."""
        return tuple(self.layout.mosaics())

    @cached_property
    def ready(self) -> dict[int, tuple[int, ...]]:
        """Batches that have ``.ready``, by mosaic; lists the whole project."""
        found = {mosaic: self.ready_batches(mosaic) for mosaic in self.present_mosaics}
        return {mosaic: batches for mosaic, batches in found.items() if batches}

    @cached_property
    def _states(self) -> dict[int, Mapping[tuple[str, int | str], frozenset[str]]]:
        return {}

    def _present(self, mosaic: int) -> Mapping[tuple[str, int | str], frozenset[str]]:
        if mosaic not in self._states:
            self._states[mosaic] = present_states(self.layout.mosaic_state(mosaic))
        return self._states[mosaic]

    def batch_states(self, mosaic: int) -> dict[int, frozenset[str]]:
        """Flags and records that each batch of a mosaic has."""
        present = self._present(mosaic).items()
        return {int(number): states for (level, number), states in present if level == "batch"}

    def mosaic_states(self, mosaic: int) -> frozenset[str]:
        """Flags and records that a mosaic has."""
        return self._present(mosaic).get(("mosaic", mosaic), frozenset())

    def ready_batches(self, mosaic: int) -> tuple[int, ...]:
        """Batches of a mosaic that have ``.ready``."""
        states = self.batch_states(mosaic)
        return tuple(sorted(batch for batch in states if "ready" in states[batch]))

    def has(self, place: Place, state: str) -> bool:
        """Whether a flag is there."""
        if place.mosaic is not None:
            key = (place.level, place.batch or place.mosaic)
            return state in self._present(place.mosaic).get(key, ())
        return flag_path(self.layout, place, state).exists()

    # --------------------------------------------------------------------------------- grid
    def check_grid(self) -> None:
        """Refuse a grid or tile size other than that of the batches that are ready.

        The oldest and the newest mosaic of each acquisition tell; the cost does not grow with
        finished work.

        Raises
        ------
        ConfigError
            Names the key, both values, and the two ways out.
        """
        for label in self.config.acquisition.labels:
            own = [mosaic for mosaic in self.present_mosaics if self.acquisition(mosaic) == label]
            ends = (next(filter(self.ready_batches, way), None) for way in (own, own[::-1]))
            for mosaic in sorted({mosaic for mosaic in ends if mosaic is not None}):
                self._check_grid(mosaic)

    def _check_grid(self, mosaic: int) -> None:
        scan = self.config.acquisition
        label = self.acquisition(mosaic)
        batches = self.ready_batches(mosaic)
        path = self.layout.batch_flag(mosaic, batches[0], "ready")
        ready = read_flag(path)
        if ready is None:
            return
        images = self.images_of_batch(mosaic, batches[0])
        found = sorted({*ready.tiles.done, *ready.tiles.missing})
        sizes = {file.size for file in ready.inputs if _kind(file) in ("spectral", "complex")}
        expected = {scan.raw_tile_bytes(label, _kind(file)) for file in ready.inputs}
        if found != list(images):
            changed = f"grid_size_y: {len(images)} tiles per batch now, {len(found)}"
        elif max(batches) > scan.columns(label):
            changed = f"grid_size_x_{label}: {scan.columns(label)} batches now, {max(batches)}"
        elif sizes and sizes != expected:
            changed = f"tile size: {sorted(expected)} bytes per tile now, {sorted(sizes)}"
        else:
            return
        raise ConfigError(
            f"acquisition was changed while flags are present ({changed} in {path}). Restore "
            "it, or take the change by `optic-trigger redo --from scan`, then scan and "
            "snakemake again."
        )

    def acquisition(self, mosaic: int) -> str:
        """Label of a mosaic."""
        return naming.acquisition_of_mosaic(mosaic, self.config.acquisition.mosaics_per_slice)

    def slice(self, mosaic: int) -> int:
        """Slice of a mosaic."""
        return naming.slice_of_mosaic(mosaic, self.config.acquisition.mosaics_per_slice)[0]

    def batches(self, mosaic: int) -> range:
        """Every batch of a mosaic's grid."""
        return range(1, self.config.acquisition.columns(self.acquisition(mosaic)) + 1)

    def images(self, mosaic: int) -> range:
        """Every tile of a mosaic's grid."""
        rows = self.config.acquisition.rows(self.acquisition(mosaic))
        return range(1, len(self.batches(mosaic)) * rows + 1)

    def images_of_batch(self, mosaic: int, batch: int) -> range:
        """Every tile of a batch of the grid."""
        return naming.images_of_batch(batch, self.config.acquisition.rows(self.acquisition(mosaic)))

    def mosaics(self, slice_: int) -> tuple[int, ...]:
        """Every mosaic of a slice."""
        return naming.mosaics_of_slice(slice_, self.config.acquisition.mosaics_per_slice)

    def registered_pair(self, slice_: int) -> tuple[int, int]:
        """The normal mosaic of a slice and the one that is registered to it."""
        labels, mosaics = self.config.acquisition.labels, self.mosaics(slice_)
        moving = self.config.registration.moving or labels[1]
        return mosaics[0], mosaics[labels.index(moving)]

    # ------------------------------------------------------------------------ missing tiles
    @cached_property
    def _closed(self) -> dict[int, frozenset[int]]:
        return {}

    def closed_without(self, mosaic: int) -> frozenset[int]:
        """Tiles that a person has accepted a mosaic without; empty when it is not closed."""
        if mosaic not in self._closed:
            closed = None
            if "closed" in self.mosaic_states(mosaic):
                closed = read_flag(self.layout.mosaic_flag(mosaic, "closed"))
            self._closed[mosaic] = frozenset(closed.extra.get("missing", ()) if closed else ())
        return self._closed[mosaic]

    def counted_batches(self, mosaic: int) -> list[int]:
        """Batches that a mosaic is made from: all of its grid, or those that a closed one has."""
        closed = self.closed_without(mosaic)
        if not closed:
            return list(self.batches(mosaic))
        ready = self.ready_batches(mosaic)
        return [
            batch
            for batch in self.batches(mosaic)
            if batch in ready or not closed.issuperset(self.images_of_batch(mosaic, batch))
        ]

    @cached_property
    def _lacking(self) -> dict[int, tuple[list[int], int, list[str]]]:
        return {}

    def missing_tiles(self, mosaic: int) -> list[int]:
        """Tiles that are known not to come: not in the ``.ready`` of their batch, or closed away.

        Reads every ``.ready`` of the mosaic.
        """
        return self._look_for_missing(mosaic)[0]

    def _look_for_missing(self, mosaic: int) -> tuple[list[int], int, list[str]]:
        """Missing tiles, how many of them may be missing, and the folders of the others."""
        if mosaic in self._lacking:
            return self._lacking[mosaic]
        allowed = self.config.mosaic.allow_missing_tiles
        missing = set(self.closed_without(mosaic))
        folders = set()
        for batch in self.ready_batches(mosaic):
            if batch not in self.batches(mosaic):
                continue
            missing -= set(self.images_of_batch(mosaic, batch))
            ready = read_flag(self.layout.batch_flag(mosaic, batch, "ready"))
            if ready is not None and ready.tiles.missing:
                missing |= set(ready.tiles.missing)
                # The watcher may have been told to accept more than the configuration does.
                allowed = max(allowed, int(ready.extra.get("allow_missing", 0)))
                folders |= {str(Path(file.path).parent) for file in ready.inputs}
        self._lacking[mosaic] = sorted(missing), allowed, sorted(folders)
        return self._lacking[mosaic]

    def missing_message(self, mosaic: int) -> str:
        """Why a mosaic cannot be made without the tiles that it lacks; empty when it can."""
        missing, allowed, folders = self._look_for_missing(mosaic)
        if len(set(missing) - self.closed_without(mosaic)) <= allowed:
            return ""
        return (
            f"mosaic {mosaic:03d}: {len(missing)} of {len(self.images(mosaic))} tiles missing "
            f"({image_list(missing)}) in {', '.join(folders)}. Set mosaic.allow_missing_tiles: "
            f"{len(missing)} to go on, or run `optic-trigger close --mosaic {mosaic} --missing "
            f"{image_list(missing)}`."
        )

    def accept_missing(self, mosaic: int) -> frozenset[int]:
        """Tiles that a mosaic is made without.

        Raises
        ------
        IncompleteInputError
            More than the configuration allows, and nobody has closed the mosaic.
        """
        message = self.missing_message(mosaic)
        if message:
            raise IncompleteInputError(message)
        return frozenset(self.missing_tiles(mosaic))

    def is_complete(self, mosaic: int) -> bool:
        """Whether every batch of a mosaic is ready, or closed away with all its tiles."""
        counted = self.counted_batches(mosaic)
        return bool(counted) and set(counted) <= set(self.ready_batches(mosaic))

    def is_accepted(self, mosaic: int) -> bool:
        """Whether a mosaic is complete and may lack the tiles that it lacks."""
        # What is stitched was accepted; a mosaic that lacks more loses the flag first.
        done = "stitched" in self.mosaic_states(mosaic)
        return self.is_complete(mosaic) and (done or not self.missing_message(mosaic))

    # ----------------------------------------------------------------------------- template
    def template_slices(self, acquisition: str) -> tuple[int, ...]:
        """Slices whose mosaics give the coordinates: as recorded, as configured, or the first."""
        solved = read_flag(self.layout.tilemap_flag(acquisition))
        if solved is not None:
            recorded = solved.extra.get("template_slices", [solved.extra["template_slice"]])
            return tuple(map(int, recorded))
        if self.config.mosaic.template_slices:
            return self.config.mosaic.template_slices
        if self.config.mosaic.template_slice is not None:
            return (self.config.mosaic.template_slice,)
        own = (mosaic for mosaic in self.present_mosaics if self.acquisition(mosaic) == acquisition)
        return tuple(self.slice(mosaic) for mosaic in own if self.ready_batches(mosaic))[:1]

    def template_mosaics(self, acquisition: str) -> tuple[int, ...]:
        """Mosaics of :meth:`template_slices`."""
        position = self.config.acquisition.labels.index(acquisition) + 1
        per_slice = self.config.acquisition.mosaics_per_slice
        return tuple(
            naming.mosaic_of_slice(slice_, position, per_slice)
            for slice_ in self.template_slices(acquisition)
        )

    def template_mosaic(self, acquisition: str) -> int | None:
        """The last mosaic that gives the coordinates, with which they are made."""
        return max(self.template_mosaics(acquisition), default=None)

    def is_solved(self, acquisition: str) -> bool:
        """Whether the coordinates are solved."""
        return self.layout.tilemap_flag(acquisition).exists()

    def has_template(self, acquisition: str) -> bool:
        """Whether the coordinates are solved, or can be."""
        if self.is_solved(acquisition):
            return True
        mosaics = self.template_mosaics(acquisition)
        return bool(mosaics) and all(map(self.is_accepted, mosaics))

    # -------------------------------------------------------------------- what can be asked
    def inputs(self, place: Place, state: str) -> list[tuple[Place, str]]:
        """What a flag is made from directly, of what must still be there afterwards."""
        per_slice = self.config.acquisition.mosaics_per_slice
        if place.level == "batch" and state != "ready":
            tiles = "complex" if makes_complex(self.config) else "ready"
            return [(place, {"processed": tiles, "qc": "processed"}.get(state, "ready"))]
        if place.level == "mosaic" and state in ("coordinates", "stitched") and place.mosaic:
            batches = self.counted_batches(place.mosaic)
            own = state == "stitched" and self.uses_coordinates(place.mosaic)
            return [
                *((batch_place(place.mosaic, batch, per_slice), "processed") for batch in batches),
                (Place("tilemap", acquisition=self.acquisition(place.mosaic)), "solved"),
                *([(place, "coordinates")] if own else []),
            ]
        if place.level == "focus":
            return [(Place("tilemap", acquisition=place.acquisition), "solved")]
        if place.level == "mosaic" and state == "volume_stitched":
            return [(place, naming.volume_state(name)) for name in self.config.volume_modalities]
        if place.level == "mosaic" and naming.modality_of_state(state) and place.mosaic:
            focus = Place("focus", acquisition=self.acquisition(place.mosaic))
            return [(place, "stitched"), *([(focus, "fitted")] if self.config.fits_focus else [])]
        if place.level == "slice" and state == "registered" and place.slice:
            mosaics = self.mosaics(place.slice)
            return [(Place("mosaic", place.slice, mosaic), "stitched") for mosaic in mosaics]
        return []

    def uses_coordinates(self, mosaic: int) -> bool:
        """Whether a mosaic has ``.coordinates``, or will before it is stitched.

        What an earlier version stitched has none and is left alone.
        """
        states = self.mosaic_states(mosaic)
        return "coordinates" in states or "stitched" not in states

    @property
    def batch_flags(self) -> tuple[str, ...]:
        """Flags that stages write for a batch, in their order."""
        names = ["processed"]
        if makes_complex(self.config):
            names.insert(0, "complex")
        if makes_tile_qc(self.config):
            names.append("qc")
        if makes_archive(self.config):
            names.append("archived")
        return tuple(names)

    @property
    def volume_flags(self) -> tuple[str, ...]:
        """Flags that stages write for the volumes of a mosaic, in their order."""
        made = self.config.volume_modalities
        return (*map(naming.volume_state, made), "volume_stitched") if made else ()

    def can_stitch(self, mosaic: int) -> bool:
        """Whether a mosaic can be asked for together with all that it is made from."""
        return self.is_complete(mosaic) and (
            self.has_template(self.acquisition(mosaic)) and self.is_accepted(mosaic)
        )

    def wanted(self, mosaic: int) -> list[tuple[Place, str]]:
        """Every flag of a mosaic that can be asked for: enabled, and its batches are ready."""
        per_slice = self.config.acquisition.mosaics_per_slice
        flags = [
            (batch_place(mosaic, batch, per_slice), state)
            for batch in self.ready_batches(mosaic)
            if batch in self.batches(mosaic)
            for state in self.batch_flags
        ]
        if self.can_stitch(mosaic):
            place = Place("mosaic", self.slice(mosaic), mosaic)
            flags += [(place, "coordinates")] if self.uses_coordinates(mosaic) else []
            flags += [(place, "stitched"), *((place, state) for state in self.volume_flags)]
        return flags

    def flags(self) -> list[tuple[Place, str]]:
        """Every flag that can be asked for now, each by itself."""
        wanted = [flag for mosaic in self.present_mosaics for flag in self.wanted(mosaic)]
        stitchable = {place.mosaic for place, state in wanted if state == "stitched"}
        acquisitions = {self.acquisition(mosaic) for mosaic in stitchable if mosaic}
        wanted += [
            (Place("tilemap", acquisition=acquisition), "solved")
            for acquisition in sorted(acquisitions)
        ]
        if self.config.fits_focus:
            wanted += [(Place("focus", acquisition=a), "fitted") for a in sorted(acquisitions)]
        if self.config.registration.enabled:
            slices = sorted({self.slice(mosaic) for mosaic in stitchable if mosaic})
            wanted += [
                (Place("slice", slice_), "registered")
                for slice_ in slices
                if stitchable.issuperset(self.mosaics(slice_))
            ]
        return wanted

    def targets(self) -> list[str]:
        """Files of :meth:`flags` and the report's pictures, relative to the project folder."""
        flags = self.flags()
        paths = [flag_path(self.layout, place, state) for place, state in flags]
        paths += [picture for flag in flags if (picture := self._picture(*flag))]
        return [self.layout.relative(path) for path in paths]

    def _picture(self, place: Place, state: str) -> Path | None:
        """Picture that is drawn of what a flag stands for; that of a batch comes with ``.qc``."""
        if state == "stitched":
            return self.layout.mosaic_picture(place.mosaic or 0)
        if state == "fitted":
            return self.layout.focus_picture(place.acquisition or "")
        return self.layout.slice_picture(place.slice or 0) if state == "registered" else None

    # ---------------------------------------------------------------------- for the watcher
    def startable(self, mosaic: int) -> list[Target]:
        """What is missing of a mosaic and can be made from flags that are there.

        One run makes each target without another one of them: what is made on the way (complex
        tiles; coordinates of a mosaic; the template, with its own mosaic) is made for this target
        only.
        """
        flags = [
            (place, state)
            for place, state in self.wanted(mosaic)
            if state not in ("complex", "coordinates") and not self.has(place, state)
            if all(self._is_at_hand(mosaic, *flag) for flag in self.inputs(place, state))
        ]
        place = Place("mosaic", self.slice(mosaic), mosaic)
        return [
            *(self._target(place, state) for place, state in flags),
            *self._due_pictures(place, "stitched"),
            *self._startable_focus(mosaic, place),
        ]

    def _startable_focus(self, mosaic: int, place: Place) -> list[Target]:
        """The focus plane of an acquisition, which is a matter of its template mosaic."""
        focus = self._own_focus(mosaic)
        if focus is None:
            return []
        if self.has(focus, "fitted"):
            return self._due_pictures(focus, "fitted")
        acquisition = focus.acquisition or ""
        batches = [flag for flag in self.inputs(place, "stitched") if flag[0].level == "batch"]
        if not self.is_solved(acquisition) or not all(self.has(*flag) for flag in batches):
            return []
        path = flag_path(self.layout, focus, "fitted")
        return [Target("volume", place, self.layout.relative(path))]

    def _own_focus(self, mosaic: int) -> Place | None:
        """Focus plane that is fitted on a mosaic; None for most mosaics."""
        acquisition = self.acquisition(mosaic)
        is_template = self.config.fits_focus and self.template_mosaic(acquisition) == mosaic
        return Place("focus", acquisition=acquisition) if is_template else None

    def startable_slice(self, slice_: int) -> list[Target]:
        """What is missing of a slice, beside its mosaics, and can be made from their flags."""
        place = Place("slice", slice_)
        if not self.config.registration.enabled:
            return []
        if self.has(place, "registered"):
            return self._due_pictures(place, "registered")
        there = all(self.has(*flag) for flag in self.inputs(place, "registered"))
        return [self._target(place, "registered")] if there else []

    def _is_at_hand(self, mosaic: int, place: Place, state: str) -> bool:
        """Whether an input is there, or is made on the way and for nobody else."""
        if self.has(place, state):
            return True
        if state == "complex":
            return self.has(place, "ready")
        if state == "coordinates":
            return True  # made from what the mosaic itself is made from
        if state != "solved" or place.acquisition is None:
            return False
        return self.template_mosaic(place.acquisition) == mosaic and all(
            self.has(
                batch_place(other, batch, self.config.acquisition.mosaics_per_slice), "processed"
            )
            for other in self.template_mosaics(place.acquisition)
            for batch in self.counted_batches(other)
        )

    def _target(self, place: Place, state: str) -> Target:
        goals: dict[str, Goal] = {
            "qc": "qc",
            "archived": "archive",
            "stitched": "mosaic",
            "registered": "slice",
            **dict.fromkeys(self.volume_flags, "volume"),
        }
        path = flag_path(self.layout, place, state)
        return Target(goals.get(state, "batch"), place, self.layout.relative(path))

    def _due_pictures(self, place: Place, state: str) -> list[Target]:
        """The picture of a place whose flag is there, when it is missing or older than the flag."""
        picture = self._picture(place, state)
        if picture is None or not self.has(place, state):
            return []
        made, drawn = _written_ns(flag_path(self.layout, place, state)), _written_ns(picture)
        is_due = made is not None and (drawn is None or drawn < made)
        return [Target("qc", place, self.layout.relative(picture))] if is_due else []

    def is_finished(self, mosaic: int) -> bool:
        """Whether nothing of ``run.goals`` will be asked for a mosaic any more."""
        goals = self.config.run.goals
        states = self.batch_states(mosaic)
        names = ["ready"]
        names += ["processed"] if "batch" in goals else []
        names += ["qc"] if "qc" in goals and makes_tile_qc(self.config) else []
        names += ["archived"] if "archive" in goals and makes_archive(self.config) else []
        place = Place("mosaic", self.slice(mosaic), mosaic)
        return (
            all(states.get(b, frozenset()).issuperset(names) for b in self.counted_batches(mosaic))
            and ("mosaic" not in goals or self.has(place, "stitched"))
            and ("qc" not in goals or not self._due_pictures(place, "stitched"))
            and self._are_volumes_finished(mosaic, place)
        )

    def _are_volumes_finished(self, mosaic: int, place: Place) -> bool:
        goals, focus = self.config.run.goals, self._own_focus(mosaic)
        if "volume" not in goals:
            return True
        if focus is not None:
            drawn = "qc" not in goals or not self._due_pictures(focus, "fitted")
            if not self.has(focus, "fitted") or not drawn:
                return False
        return all(self.has(place, state) for state in self.volume_flags)

    def is_slice_finished(self, slice_: int) -> bool:
        """Whether nothing of ``run.goals`` will be asked for a slice any more."""
        goals, place = self.config.run.goals, Place("slice", slice_)
        if not self.config.registration.enabled or "slice" not in goals:
            return True
        return self.has(place, "registered") and (
            "qc" not in goals or not self._due_pictures(place, "registered")
        )

    # ---------------------------------------------------------------------------- for people
    def waiting(self) -> list[str]:
        """Why ready mosaics cannot be stitched yet, for people."""
        messages = (self._waits_for(mosaic) for mosaic in self.ready)
        return [message for message in messages if message]

    def _waits_for(self, mosaic: int) -> str:
        if not self.is_complete(mosaic):
            batches = self.counted_batches(mosaic)
            missing = sorted(set(batches) - set(self.ready_batches(mosaic)))
            return (
                f"mosaic {mosaic:03d}: {len(missing)} of {len(batches)} batches not ready "
                f"({', '.join(map(str, missing))})"
            )
        if not self.is_accepted(mosaic):
            return self.missing_message(mosaic)
        acquisition = self.acquisition(mosaic)
        if self.has_template(acquisition):
            return ""
        late = [m for m in self.template_mosaics(acquisition) if not self.is_accepted(m)]
        slices = ", ".join(str(self.slice(m)) for m in late) or "none"
        return (
            f"mosaic {mosaic:03d}: waits for the coordinates of the template slice {slices}, whose "
            f"{acquisition} mosaic is not complete. Acquire it, close it (optic-trigger close), or "
            "set mosaic.template_slice to a complete slice."
        )


def _written_ns(path: Path) -> int | None:
    """When a file was written, ns; None when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
