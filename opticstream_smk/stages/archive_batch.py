"""Raw files of a batch to the archive, beside everything that is computed from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opticstream_smk.archive.files import ArchivedFile, recheck, store
from opticstream_smk.archive.folder import archive_folder
from opticstream_smk.archive.links import link_archived
from opticstream_smk.archive.manifest import archived_files, read_manifest, update_manifest
from opticstream_smk.archive.places import (
    ArchivePlace,
    files_to_archive,
    manifest_path,
    owner,
    shared_mosaics,
)
from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError, IncompleteInputError
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tiles import Finish, TileWork, nothing_left, ready_files, run_tiles
from opticstream_smk.state import locks
from opticstream_smk.state.flags import InputFile
from opticstream_smk.state.receipts import Receipt, read_receipt


def params(config: Config, _acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads, without the folders: an archive may be mounted elsewhere."""
    return {"name": config.archive.name, "complex": config.archive.complex}


def products(context: StageContext) -> list[Path]:
    """Links to the archived files of the batch."""
    files = ready_files(context)
    return [path for image in files for path in _links(context, image, files[image])]


def compute(context: StageContext) -> Outcome:
    """Write, or verify, the archived files of a batch, their checksums and their manifest."""
    config, layout = context.config, context.layout
    folder = archive_folder(config, layout)
    if folder is None:
        raise ConfigError(
            "archive.dir is not set, so this project has no archive; set it, best to a folder on a "
            "disk of its own"
        )
    identity = folder.open(config.project.name)
    manifest = manifest_path(config, folder.path, context.mosaic)
    with _raw_files_alone(context):
        work = _Work(context, folder.path, manifest)
        outcome = run_tiles(context, work.as_tile_work())
    update_manifest(
        layout, manifest, owner(config, context.mosaic), shared_mosaics(config, context.mosaic)
    )
    archived = [file for image in outcome.tiles.done for file in _archived(context, image)]
    content_bytes = sum(file.source.size for file in archived)
    archive_bytes = sum(file.size for file in archived)
    return Outcome(
        inputs=tuple(file.source for file in archived),
        outputs=outcome.outputs,
        tiles=outcome.tiles,
        numbers={
            "content_bytes": content_bytes,
            "archive_bytes": archive_bytes,
            "ratio": round(archive_bytes / content_bytes, 4) if content_bytes else 0.0,
        },
        extra={
            "archive": {"dir": str(folder.path), "id": identity},
            "archived": [file.model_dump(mode="json") for file in archived],
        },
        warnings=tuple(_replaced(config, archived)),
    )


class _Work:
    """How the tiles of one batch are archived."""

    def __init__(self, context: StageContext, folder: Path, manifest: Path) -> None:
        self.context = context
        self.folder = folder
        self.raw = ready_files(context)
        self.listed = {row["asset_path"]: row for row in read_manifest(manifest)}
        self.made: dict[int, list[ArchivedFile]] = {}

    def as_tile_work(self) -> TileWork:
        return TileWork(
            kind="archived",
            source=self._source,
            products=lambda image: _links(self.context, image, self.raw[image]),
            make=self._make,
            details=lambda image: {
                "archived": [file.model_dump(mode="json") for file in self.made[image]]
            },
            is_still_true=self._is_still_true,
        )

    def _wanted(self, image: int) -> list[tuple[ArchivePlace, InputFile]]:
        context = self.context
        return files_to_archive(context.config, context.mosaic, image, self.raw[image])

    def _source(self, image: int) -> InputFile:
        return self._wanted(image)[0][1]

    def _make(self, image: int, _source: Path) -> Finish:
        made = self.made[image] = []
        for place, raw in self._wanted(image):
            target = self.folder / place.name
            digests, compressor = store(
                raw,
                target,
                listed=self.listed.get(str(place.name)),
                threads=self.context.threads,
            )
            self._link(place, target)
            file = ArchivedFile(
                name=str(place.name),
                size=digests.file.size,
                sha256=digests.file.sha256,
                mosaic=place.mosaic,
                image=image,
                modality=place.modality,
                source=raw.model_copy(update={"sha256": digests.content.sha256}),
                compressor=compressor,
            )
            made.append(file)
        return nothing_left

    def _is_still_true(self, image: int, receipt: Receipt) -> bool:
        """Read what is archived again: whoever asks for the flag wants to rely on it."""
        archived = {file.name: file for file in archived_files(receipt.details)}
        wanted = self._wanted(image)
        if set(archived) != {str(place.name) for place, _ in wanted}:
            return False
        for place, raw in wanted:
            file = archived[str(place.name)]
            if _identity(file.source) != _identity(raw):
                return False
            target = self.folder / place.name
            if not target.is_file():  # in an archive that was used before
                target = self.context.layout.archived(
                    self.context.mosaic, place.name.name
                ).resolve()
            recheck(file, target)
            self._link(place, target)
        return True

    def _link(self, place: ArchivePlace, target: Path) -> None:
        context = self.context
        link_archived(context.config, context.layout, context.mosaic, place, target)


def _links(context: StageContext, image: int, files: Mapping[str, InputFile]) -> list[Path]:
    wanted = files_to_archive(context.config, context.mosaic, image, files)
    return [context.layout.archived(context.mosaic, place.name.name) for place, _ in wanted]


def _identity(file: InputFile) -> tuple[str, int, int]:
    return file.path, file.size, file.mtime_ns


def _archived(context: StageContext, image: int) -> list[ArchivedFile]:
    path = context.layout.receipt(context.mosaic, image, "archived")
    receipt = read_receipt(path)
    if receipt is None:
        raise IncompleteInputError(
            f"receipt {path} was removed while its batch was archived. Nothing is lost: run again."
        )
    return archived_files(receipt.details)


def _replaced(config: Config, archived: list[ArchivedFile]) -> Iterator[str]:
    """What people should know: the host saves spectra, and some tiles came without."""
    if not config.acquisition.saves_spectra:
        return
    both = {file.image for file in archived if file.modality == "spectral"}
    for image in sorted({file.image for file in archived} - both):
        yield f"image {image:04d} has no spectral file; its complex tile is archived instead"


@contextmanager
def _raw_files_alone(context: StageContext) -> Iterator[None]:
    """Wait for the jobs of other mosaics whose tiles are in the same raw files."""
    first = owner(context.config, context.mosaic)
    if shared_mosaics(context.config, context.mosaic) == (first,):
        yield
        return
    with locks.hold(context.layout.shared_archive_lock(first, context.place.batch or 0)):
        yield


STAGE = Stage(
    "archive_batch",
    "batch",
    "archived",
    params,
    products,
    compute,
    starts_level=lambda _config: False,
)
