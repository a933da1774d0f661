"""A project folder with finished slices, made of flags alone: for what must not cost more with age.

Sizes, inputs and outputs in the flags are as the stages write them; no product is there.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state.flags import Flag, InputFile, OutputFile, TileCount
from opticstream_smk.state.places import Place, batch_place, flag_path

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_VOLUMES = ("dBI", "R3D", "O3D")


class History:
    """Writes the flags of a project in the order in which the stages would."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layout = project_layout(config)
        self.plan = Plan(config, self.layout)

    def finish(self, slices: int) -> None:
        """Everything of the first slices."""
        for slice_ in range(1, slices + 1):
            for mosaic in self.plan.mosaics(slice_):
                self.process(mosaic)
                if slice_ == 1:
                    self.solve(mosaic)
                self.write(self.place(mosaic), "coordinates")
                self.write(self.place(mosaic), "stitched")
                for state in self.plan.volume_flags:
                    self.write(self.place(mosaic), state)
            self.write(Place("slice", slice_), "registered")

    def process(self, mosaic: int) -> None:
        """Every batch of a mosaic."""
        for batch in self.plan.batches(mosaic):
            for state in ("ready", "started", "complex", "processed", "qc"):
                self.write(self.place(mosaic, batch), state)

    def solve(self, mosaic: int) -> None:
        """The template and the focus plane of a mosaic's acquisition."""
        acquisition = self.plan.acquisition(mosaic)
        self.write(Place("tilemap", acquisition=acquisition), "solved")
        if self.config.fits_focus:
            self.write(Place("focus", acquisition=acquisition), "fitted")

    def stitch(self, slice_: int) -> None:
        """Every mosaic of a slice, which is not registered."""
        for mosaic in self.plan.mosaics(slice_):
            self.process(mosaic)
            self.write(self.place(mosaic), "coordinates")
            self.write(self.place(mosaic), "stitched")

    def enter(self, mosaic: int, *batches: int, missing: Collection[int] = ()) -> None:
        """Batches that are ready, and no more."""
        for batch in batches:
            self.write(self.place(mosaic, batch), "ready", missing=missing)

    def close(self, mosaic: int, missing: Collection[int]) -> None:
        """A mosaic that a person has accepted without some tiles."""
        self.write(self.place(mosaic), "closed", missing=missing, extra={"missing": missing})

    def write(
        self,
        place: Place,
        state: str,
        *,
        missing: Collection[int] = (),
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """One flag."""
        mosaic = place.mosaic or 1
        own = set(
            self.plan.images_of_batch(mosaic, place.batch)
            if place.batch
            else self.plan.images(mosaic)
        )
        images = sorted(own.difference(missing))
        path = flag_path(self.layout, place, state)
        flag = Flag(
            flag=path.name,
            project=self.config.project.name,
            **place.ids,
            stage="made for a test",
            started=_AT,
            finished=_AT,
            duration_s=1.0,
            params_sha256="0" * 64,
            inputs=tuple(self._inputs(state, mosaic, images)),
            outputs=tuple(self._outputs(state, mosaic, images)),
            tiles=TileCount(done=tuple(images), missing=tuple(sorted(own & set(missing)))),
            extra={"template_slice": 1, "fingerprint": "0" * 64, **(extra or {})},
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(flag.model_dump_json(by_alias=True))

    def _inputs(self, state: str, mosaic: int, images: list[int]) -> Iterator[InputFile]:
        scan = self.config.acquisition
        folder = scan.sources[0].dir
        size = scan.raw_tile_bytes(self.plan.acquisition(mosaic))
        many = ("started", "stitched", "registered", "fitted", *self.plan.volume_flags)
        for image in images if state not in many else ():
            name = f"mosaic_{mosaic:03d}_image_{image:04d}_spectral_{image:04d}.nii"
            yield InputFile(
                path=str(folder / name), size=size, mtime_ns=1, image=image, modality="spectral"
            )

    def _outputs(self, state: str, mosaic: int, images: list[int]) -> Iterator[OutputFile]:
        modalities: tuple[str, ...] = {
            "complex": ("complex",),
            "processed": (*_VOLUMES, "surf", *self.config.processing.modalities),
        }.get(state, ())
        for image in images:
            for modality in modalities:
                path = self.layout.processed_tile(mosaic, image, modality)
                yield OutputFile(path=self.layout.relative(path), size=10**9)

    def place(self, mosaic: int, batch: int | None = None) -> Place:
        """A mosaic, or a batch of it."""
        if batch is not None:
            return batch_place(mosaic, batch, self.config.acquisition.mosaics_per_slice)
        return Place("mosaic", self.plan.slice(mosaic), mosaic)


def write_config(folder: Path, **acquisition: object) -> Path:
    """Configuration of a project of the usual size: 22 batches of 16 tiles, two mosaics a slice."""
    import yaml

    (folder / "raw").mkdir(parents=True, exist_ok=True)
    # The Snakefile names it; nothing reads it in a dry run.
    (folder / "raw" / "wave-pixel.mat").touch()
    values = {
        "project": {"name": "history", "dir": "project"},
        "acquisition": {
            "sources": [{"dir": "raw"}],
            "calibration_file": "raw/wave-pixel.mat",
            **acquisition,
        },
        "run": {"token_dir": os.fspath(folder / "tokens")},
    }
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
