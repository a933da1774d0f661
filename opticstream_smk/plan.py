"""What is ready, what can be asked for, and what waits for what.

The Snakefile, ``scan``, ``status`` and ``doctor`` all ask here; nothing else counts batches.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import InputFile, read_flag
from opticstream_smk.state.places import Place, batch_place, flag_path
from opticstream_smk.state.psoct import OctProjectState, OctRepository, OctState


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


def makes_tile_qc(config: Config) -> bool:
    """Whether batches have a contact sheet; it needs the volumes."""
    processing = config.processing
    volumes = processing.save_volume_outputs and not config.acquisition.maps_are_input
    return processing.tile_qc and volumes


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


def _kind(file: InputFile) -> str:
    return str((file.model_extra or {}).get("modality", "spectral"))


@dataclass(frozen=True)
class Plan:
    """A snapshot of what a project can do next.

    Attributes
    ----------
    config, layout
        The project.
    """

    config: Config
    layout: ProjectLayout

    @cached_property
    def ready(self) -> dict[int, tuple[int, ...]]:
        """Batches that have ``.ready``, by mosaic."""
        project = OctProjectState(self.layout, self.config.acquisition.mosaics_per_slice)
        found: dict[int, list[int]] = {}
        for place, state in project.present():
            if place.level == "batch" and state == "ready" and place.mosaic and place.batch:
                found.setdefault(place.mosaic, []).append(place.batch)
        return {mosaic: tuple(sorted(found[mosaic])) for mosaic in sorted(found)}

    def check_grid(self) -> None:
        """Refuse a grid or tile size other than that of the batches that are ready.

        One ``.ready`` of each acquisition tells; the cost does not grow with finished work.

        Raises
        ------
        ConfigError
            Names the key, both values, and the two ways out.
        """
        scan = self.config.acquisition
        for label in scan.labels:
            mosaic = next((m for m in self.ready if self.acquisition(m) == label), None)
            if mosaic is None:
                continue
            batch = self.ready[mosaic][0]
            path = self.layout.batch_flag(mosaic, batch, "ready")
            ready = read_flag(path)
            if ready is None:
                continue
            images = list(naming.images_of_batch(batch, scan.rows(label)))
            sizes = {file.size for file in ready.inputs if _kind(file) in ("spectral", "complex")}
            expected = {scan.raw_tile_bytes(label, _kind(file)) for file in ready.inputs}
            if sorted(ready.tiles.done) != images:
                changed = f"grid_size_y: {len(images)} tiles per batch now, {len(ready.tiles.done)}"
            elif max(self.ready[mosaic]) > scan.columns(label):
                changed = (
                    f"grid_size_x_{label}: {scan.columns(label)} batches now, "
                    f"{max(self.ready[mosaic])}"
                )
            elif sizes and sizes != expected:
                changed = f"tile size: {sorted(expected)} bytes per tile now, {sorted(sizes)}"
            else:
                continue
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

    def mosaics(self, slice_: int) -> tuple[int, ...]:
        """Every mosaic of a slice."""
        return naming.mosaics_of_slice(slice_, self.config.acquisition.mosaics_per_slice)

    def registered_pair(self, slice_: int) -> tuple[int, int]:
        """The normal mosaic of a slice and the one that is registered to it."""
        labels, mosaics = self.config.acquisition.labels, self.mosaics(slice_)
        moving = self.config.registration.moving or labels[1]
        return mosaics[0], mosaics[labels.index(moving)]

    def is_complete(self, mosaic: int) -> bool:
        """Whether all batches of a mosaic are ready."""
        return set(self.batches(mosaic)) <= set(self.ready.get(mosaic, ()))

    def template_slice(self, acquisition: str) -> int | None:
        """Slice whose mosaic gives the coordinates: as recorded, as configured, or the first."""
        solved = read_flag(self.layout.tilemap_flag(acquisition))
        if solved is not None:
            return int(solved.extra["template_slice"])
        if self.config.mosaic.template_slice is not None:
            return self.config.mosaic.template_slice
        return next((self.slice(m) for m in self.ready if self.acquisition(m) == acquisition), None)

    def template_mosaic(self, acquisition: str) -> int | None:
        """Mosaic of :meth:`template_slice`."""
        slice_ = self.template_slice(acquisition)
        if slice_ is None:
            return None
        position = self.config.acquisition.labels.index(acquisition) + 1
        return naming.mosaic_of_slice(slice_, position, self.config.acquisition.mosaics_per_slice)

    def has_template(self, acquisition: str) -> bool:
        """Whether the coordinates are solved, or can be."""
        mosaic = self.template_mosaic(acquisition)
        return mosaic is not None and (
            self.layout.tilemap_flag(acquisition).exists() or self.is_complete(mosaic)
        )

    def can_stitch(self, mosaic: int) -> bool:
        """Whether a mosaic can be asked for."""
        return self.is_complete(mosaic) and self.has_template(self.acquisition(mosaic))

    def flags(self) -> list[tuple[Place, str]]:
        """Every flag that can be asked for now: enabled stages whose inputs are all ready."""
        per_slice = self.config.acquisition.mosaics_per_slice
        states = ["processed"]
        if makes_complex(self.config):
            states.insert(0, "complex")
        if makes_tile_qc(self.config):
            states.append("qc")
        wanted: list[tuple[Place, str]] = []
        for mosaic, batches in self.ready.items():
            wanted += [
                (batch_place(mosaic, batch, per_slice), state)
                for batch in batches
                if batch in self.batches(mosaic)
                for state in states
            ]
        stitchable = [mosaic for mosaic in self.ready if self.can_stitch(mosaic)]
        for acquisition in sorted({self.acquisition(mosaic) for mosaic in stitchable}):
            wanted.append((Place("tilemap", acquisition=acquisition), "solved"))
        wanted += [
            (Place("mosaic", self.slice(mosaic), mosaic), "stitched") for mosaic in stitchable
        ]
        if self.config.registration.enabled:
            slices = self._complete_slices(stitchable)
            wanted += [(Place("slice", slice_), "registered") for slice_ in slices]
        return wanted

    def _complete_slices(self, stitchable: list[int]) -> list[int]:
        slices = sorted({self.slice(mosaic) for mosaic in stitchable})
        return [s for s in slices if set(self.mosaics(s)) <= set(stitchable)]

    def targets(self) -> list[str]:
        """Files of :meth:`flags` and the report's pictures, relative to the project folder."""
        flags = self.flags()
        paths = [flag_path(self.layout, place, state) for place, state in flags]
        for place, _ in flags:
            if place.level == "mosaic" and place.mosaic:
                paths.append(self.layout.mosaic_picture(place.mosaic))
            elif place.level == "slice" and place.slice:
                paths.append(self.layout.slice_picture(place.slice))
        return [self.layout.relative(path) for path in paths]

    def waiting(self) -> list[str]:
        """Why ready mosaics cannot be stitched yet, for people."""
        messages = []
        for mosaic in self.ready:
            acquisition = self.acquisition(mosaic)
            if not self.is_complete(mosaic):
                missing = sorted(set(self.batches(mosaic)) - set(self.ready[mosaic]))
                messages.append(
                    f"mosaic {mosaic:03d}: {len(missing)} of {len(self.batches(mosaic))} batches "
                    f"not ready ({', '.join(map(str, missing))})"
                )
            elif not self.has_template(acquisition):
                messages.append(
                    f"mosaic {mosaic:03d}: waits for the coordinates of the template slice "
                    f"{self.template_slice(acquisition)}, whose {acquisition} mosaic is not "
                    "complete. Acquire it, or set mosaic.template_slice to a complete slice."
                )
        return messages
