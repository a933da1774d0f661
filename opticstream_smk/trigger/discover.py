"""Raw tiles in the source folders, grouped into batches."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.config.acquisition import Source, input_names
from opticstream_smk.errors import NamingError
from opticstream_smk.naming.inputs import InputNames, ParsedName
from opticstream_smk.naming.sequence import AcquisitionSequence, place_interleaved
from opticstream_smk.state.flags import InputFile


@dataclass(frozen=True)
class RawFile:
    """One raw file and the tile that its name says it is; ids are those of the project.

    Attributes
    ----------
    modality
        ``spectral``, ``complex``, or the map that it holds.
    """

    mosaic: int
    image: int
    modality: str
    path: Path
    size: int
    mtime_ns: int

    def as_input(self) -> InputFile:
        """The file as ``.ready`` lists it."""
        return InputFile(
            path=str(self.path),
            size=self.size,
            mtime_ns=self.mtime_ns,
            image=self.image,
            modality=self.modality,
        )


@dataclass(frozen=True)
class RawBatch:
    """The raw files of one batch, in order of their images.

    Attributes
    ----------
    missing
        Images of the batch that lack a file.
    problems
        Why the batch cannot be taken: one message for each file that is wrong.
    """

    mosaic: int
    batch: int
    files: tuple[RawFile, ...]
    missing: tuple[int, ...]
    problems: tuple[str, ...]

    @property
    def images(self) -> tuple[int, ...]:
        """Images that have all their files."""
        lacking = set(self.missing)
        return tuple(dict.fromkeys(f.image for f in self.files if f.image not in lacking))

    @property
    def is_complete(self) -> bool:
        """Whether every tile is there and as it should be."""
        return not self.missing and not self.problems


@dataclass
class Discovery:
    """What the source folders hold.

    Attributes
    ----------
    batches
        In order of mosaic and batch.
    problems
        What is wrong outside of any batch.
    """

    batches: list[RawBatch] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def discover(config: Config) -> Discovery:
    """List all source folders once and group their files into batches.

    Nothing is opened: names, sizes and permissions decide.
    """
    found = Discovery()
    grouped: dict[tuple[int, int], _Tiles] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    beyond: dict[int, set[int]] = defaultdict(set)
    scan = config.acquisition
    for source in scan.sources:
        for file in _files(config, source, found.problems):
            label = _label(config, file.mosaic)
            batch = naming.batch_of_image(file.image, scan.rows(label))
            if batch > scan.columns(label):
                beyond[file.mosaic].add(file.image)
            else:
                grouped[file.mosaic, batch][file.image][file.modality].append(file)
    for mosaic, images in sorted(beyond.items()):
        found.problems.append(_beyond_message(config, mosaic, images))
    for (mosaic, batch), tiles in sorted(grouped.items()):
        found.batches.append(_batch(config, mosaic, batch, tiles))
    return found


# Files by image and modality; more than one is a mistake of somebody's.
_Tiles = dict[int, dict[str, list[RawFile]]]


def needed_files(config: Config) -> tuple[str, ...]:
    """Modalities that every tile must bring to be processed."""
    if config.acquisition.maps_are_input:
        return ("dBI", "surf", *config.processing.modalities)
    return ("complex",) if config.acquisition.complex_is_input else ("spectral",)


def _label(config: Config, mosaic: int) -> str:
    return naming.acquisition_of_mosaic(mosaic, config.acquisition.mosaics_per_slice)


def _files(config: Config, source: Source, problems: list[str]) -> Iterator[RawFile]:
    ranges = naming.parse_mosaic_ranges(source.mosaic_ranges)
    names = input_names(config.acquisition)
    if source.acquisition is not None and not names.is_continuous:
        names = names.only(None, None, source.acquisition)
    places = _Places(config, source, names)
    for entry in _entries(source, names, problems):
        name = names.parse(entry.name)
        modality = _needed(config, name) if name else None
        if name is None or modality is None:
            continue
        try:
            found = [
                (naming.offset_mosaic(mosaic, source.slice_offset, places.per_slice), image)
                for mosaic, image in places.of(name)
                if any(first <= mosaic <= last for first, last in ranges)
            ]
            if not found or not entry.is_file():
                continue
            status = entry.stat()
        except NamingError as error:
            problems.append(f"{entry.path}: {error}")
            continue
        except FileNotFoundError:
            continue  # renamed or removed since the listing
        except OSError as error:
            problems.append(f"{entry.path} cannot be seen: {error.strerror}")
            continue
        is_map = modality not in ("spectral", "complex")
        if status.st_size < config.watch.min_file_bytes and not is_map:
            problems.append(
                f"{entry.path} has {status.st_size} bytes, less than watch.min_file_bytes "
                f"({config.watch.min_file_bytes}); it is not taken for a tile"
            )
            continue
        for mosaic, image in found:
            yield RawFile(
                mosaic, image, modality, Path(entry.path), status.st_size, status.st_mtime_ns
            )


def _entries(source: Source, names: InputNames, problems: list[str]) -> Iterator[os.DirEntry[str]]:
    for inner in names.subfolders:
        folder = source.dir / inner
        try:
            yield from sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if inner != "." and isinstance(error, FileNotFoundError):
                continue
            problems.append(
                f"source folder {folder} cannot be listed ({error.strerror}); is the disk "
                "mounted? Correct acquisition.sources if the folder has moved."
            )


def _needed(config: Config, name: ParsedName) -> str | None:
    """The modality of a file, if tiles are processed from such files."""
    modality = name.modality if name.kind == "processed" else name.kind
    packed = config.acquisition.tile_saving_type == "spectral_12bit"
    if modality not in needed_files(config) or name.suffix != (".raw" if packed else ".nii"):
        return None
    return modality


class _Places:
    """Which tiles of the source a file holds."""

    def __init__(self, config: Config, source: Source, names: InputNames) -> None:
        scan = config.acquisition
        self.per_slice = scan.mosaics_per_slice
        self._interleaved = scan.illuminations > 1
        tiles = tuple(scan.columns(label) * scan.rows(label) for label in scan.labels)
        self._tiles_per_slice = tiles[0]
        slice_, position = source.start_slice, source.start_mosaic
        if source.acquisition is not None and names.is_continuous:
            _, named = names.resolve(None, None, source.acquisition)
            position = named or position
        fixed = source.acquisition is not None
        self._sequence = AcquisitionSequence(tiles, slice_, position, fixed)

    def of(self, name: ParsedName) -> list[tuple[int, int]]:
        """(mosaic, image) of every tile that a file holds; none when it is not of this source."""
        if self._interleaved:
            slice_, image = name.slice, name.image
            if name.mosaic is not None:
                slice_, _ = naming.slice_of_mosaic(name.mosaic, self.per_slice)
            if slice_ is None:
                place = place_interleaved(image, self._tiles_per_slice)
                slice_, image = place.slice, place.image
            return [(mosaic, image) for mosaic in naming.mosaics_of_slice(slice_, self.per_slice)]
        if name.mosaic is not None:
            return [(name.mosaic, name.image)]
        position = self._sequence.place(name.image)
        if position is None:
            return []
        mosaic = naming.mosaic_of_slice(position.slice, position.position, self.per_slice)
        return [(mosaic, position.image)]


def _batch(config: Config, mosaic: int, batch: int, found: _Tiles) -> RawBatch:
    label = _label(config, mosaic)
    problems = []
    files = [
        file for _, kinds in sorted(found.items()) for twins in kinds.values() for file in twins
    ]
    for image, kinds in sorted(found.items()):
        for modality, twins in kinds.items():
            if len(twins) > 1:
                names = " and ".join(str(file.path) for file in twins)
                problems.append(
                    f"image {image:04d} of mosaic {mosaic:03d} is there twice ({modality}): "
                    f"{names}. Move the wrong one out of the source folder; which one is wrong "
                    "is not guessed."
                )
    problems += [problem for file in files if (problem := _wrong_file(config, file, label))]
    needed = set(needed_files(config))
    images = naming.images_of_batch(batch, config.acquisition.rows(label))
    return RawBatch(
        mosaic=mosaic,
        batch=batch,
        files=tuple(files),
        missing=tuple(image for image in images if not needed <= set(found.get(image, ()))),
        problems=tuple(problems),
    )


def _wrong_file(config: Config, file: RawFile, label: str) -> str | None:
    if not os.access(file.path, os.R_OK, effective_ids=True):
        return f"{file.path} is not readable; correct its permissions"
    if file.modality not in ("spectral", "complex"):
        return None  # the shape of a map is checked when it is read
    scan = config.acquisition
    expected = scan.raw_tile_bytes(label, file.modality)
    if file.size == expected:
        return None
    how = "truncated or still being written" if file.size < expected else "too long"
    alines = scan.alines(label) * scan.illuminations
    depth = (
        f"2 cameras x {scan.samples_per_aline} samples"
        if file.modality == "spectral"
        else f"4 components x {scan.depth_samples} samples"
    )
    return (
        f"{file.path} has {file.size} bytes, expected {expected} ({alines} A-lines x "
        f"{scan.tile_size_y} B-lines x {depth}, {scan.tile_saving_type}): {how}. Wait for it or "
        "restore it, or correct the tile size in the configuration."
    )


def _beyond_message(config: Config, mosaic: int, images: set[int]) -> str:
    scan = config.acquisition
    label = _label(config, mosaic)
    return (
        f"mosaic {mosaic:03d}: {len(images)} tiles lie beyond the grid of {scan.columns(label)} x "
        f"{scan.rows(label)} (image {min(images):04d} to {max(images):04d}) and are ignored; "
        "correct acquisition.grid_size_x or grid_size_y if the grid is larger"
    )
