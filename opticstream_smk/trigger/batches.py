"""Raw files and the batches that they make."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.state.flags import InputFile, fingerprint

# Mosaic and batch, both as the project numbers them.
BatchKey = tuple[int, int]


class RawFile(NamedTuple):
    """One raw file and the tile that its name says it is; ids are those of the project.

    Attributes
    ----------
    modality
        ``spectral``, ``complex``, or the map that it holds.
    inode, ctime_ns
        They also change when a file is replaced by one of equal size and time.
    """

    mosaic: int
    image: int
    modality: str
    path: Path
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int

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
    lacks
        Of the images that lack files and have others: the modalities that they lack.
    """

    mosaic: int
    batch: int
    files: tuple[RawFile, ...]
    missing: tuple[int, ...]
    problems: tuple[str, ...]
    lacks: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def images(self) -> tuple[int, ...]:
        """Images that have all their files."""
        lacking = set(self.missing)
        return tuple(dict.fromkeys(f.image for f in self.files if f.image not in lacking))

    @property
    def key(self) -> BatchKey:
        """Mosaic and batch."""
        return self.mosaic, self.batch

    @property
    def where(self) -> str:
        """The batch for people."""
        return f"mosaic {self.mosaic:03d} batch {self.batch:03d}"

    @property
    def progress(self) -> str:
        """How many of its tiles are there, and which are not."""
        total = len(self.images) + len(self.missing)
        listed = ", ".join(
            f"{image} (no {' and no '.join(self.lacks[image])})"
            if image in self.lacks
            else f"{image}"
            for image in self.missing
        )
        return f"{len(self.images)} of {total} tiles" + (f", missing {listed}" if listed else "")

    @property
    def signature(self) -> int:
        """Changes with the names and inodes of the files; comparable within one process only."""
        return sum(file_signature(file.path.name, file.inode) for file in self.files)

    @property
    def fingerprint(self) -> str:
        """Hash of names, sizes and times, as ``.ready`` records it."""
        return fingerprint(file.as_input() for file in self.files)


def file_signature(name: str, inode: int) -> int:
    """What one file adds to the signature of its batch; a listing gives both without a stat."""
    return hash((name, inode))


# Files of a batch by image and modality; more than one is a mistake of somebody's.
TilesFound = dict[int, dict[str, list[RawFile]]]


def needed_files(config: Config) -> tuple[str, ...]:
    """Modalities that every tile must bring to be processed."""
    scan = config.acquisition
    if scan.maps_are_input:
        return (*scan.given_volumes, "surf", *config.processing.modalities)
    return (scan.main_file,)


def taken_files(config: Config) -> tuple[str, ...]:
    """Modalities that belong to a tile: those that are needed, and spectra to be archived."""
    needed = needed_files(config)
    beside = config.acquisition.saves_spectra and "spectral" not in needed
    return (*needed, "spectral") if beside else needed


def make_batch(config: Config, mosaic: int, batch: int, found: TilesFound) -> RawBatch:
    """Judge the files of a batch: what is missing, what is wrong. Nothing is opened."""
    label = naming.acquisition_of_mosaic(mosaic, config.acquisition.mosaics_per_slice)
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
    needed = needed_files(config)
    images = naming.images_of_batch(batch, config.acquisition.rows(label))
    missing = tuple(image for image in images if not set(needed) <= set(found.get(image, ())))
    return RawBatch(
        mosaic=mosaic,
        batch=batch,
        files=tuple(files),
        missing=missing,
        problems=tuple(problems),
        lacks={
            image: tuple(modality for modality in needed if modality not in found[image])
            for image in missing
            if set(needed) & set(found.get(image, ()))
        },
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
