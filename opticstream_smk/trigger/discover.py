"""Raw tiles in the source folders, grouped into batches."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.config.acquisition import Source
from opticstream_smk.errors import NamingError
from opticstream_smk.state.flags import InputFile


@dataclass(frozen=True)
class RawTile:
    """One raw file and the tile that its name says it is; ids are those of the project."""

    mosaic: int
    image: int
    path: Path
    size: int
    mtime_ns: int

    def as_input(self) -> InputFile:
        """The tile as ``.ready`` lists it."""
        return InputFile(
            path=str(self.path), size=self.size, mtime_ns=self.mtime_ns, image=self.image
        )


@dataclass(frozen=True)
class RawBatch:
    """The raw files of one batch, in order of their images.

    Attributes
    ----------
    missing
        Images of the batch without a file.
    problems
        Why the batch cannot be taken: one message for each file that is wrong.
    """

    mosaic: int
    batch: int
    tiles: tuple[RawTile, ...]
    missing: tuple[int, ...]
    problems: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every tile is there and as it should be."""
        return not self.missing and not self.problems

    def snapshot(self) -> tuple[RawTile, ...]:
        """What must not change while the batch settles."""
        return self.tiles


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
    """List all source folders once and group their tiles into batches.

    Nothing is opened: names, sizes and permissions decide.
    """
    found = Discovery()
    grouped: dict[tuple[int, int], dict[int, list[RawTile]]] = defaultdict(
        lambda: defaultdict(list)
    )
    beyond: dict[int, list[int]] = defaultdict(list)
    for source in config.acquisition.sources:
        for tile in _tiles(config, source, found.problems):
            batch = naming.batch_of_image(tile.image, config.acquisition.grid_size_y)
            if batch > config.acquisition.columns(_label(config, tile.mosaic)):
                beyond[tile.mosaic].append(tile.image)
            else:
                grouped[tile.mosaic, batch][tile.image].append(tile)
    for mosaic, images in sorted(beyond.items()):
        found.problems.append(_beyond_message(config, mosaic, images))
    for (mosaic, batch), tiles in sorted(grouped.items()):
        found.batches.append(_batch(config, mosaic, batch, tiles))
    return found


def _label(config: Config, mosaic: int) -> str:
    return naming.acquisition_of_mosaic(mosaic, config.acquisition.mosaics_per_slice)


def _tiles(config: Config, source: Source, problems: list[str]) -> Iterator[RawTile]:
    ranges = naming.parse_mosaic_ranges(source.mosaic_ranges)
    try:
        entries = sorted(os.scandir(source.dir), key=lambda entry: entry.name)
    except OSError as error:
        problems.append(
            f"source folder {source.dir} cannot be listed ({error.strerror}); is the disk "
            "mounted? Correct acquisition.sources if the folder has moved."
        )
        return
    for entry in entries:
        name = naming.parse_raw_tile(entry.name)
        if name is None or not any(first <= name.mosaic <= last for first, last in ranges):
            continue
        try:
            mosaic = naming.offset_mosaic(
                name.mosaic, source.slice_offset, config.acquisition.mosaics_per_slice
            )
            status = entry.stat()
            if not entry.is_file():
                continue
        except NamingError as error:
            problems.append(f"{entry.path}: {error}")
            continue
        except FileNotFoundError:
            continue  # renamed or removed since the listing
        except OSError as error:
            problems.append(f"{entry.path} cannot be seen: {error.strerror}")
            continue
        if status.st_size < config.watch.min_file_bytes:
            problems.append(
                f"{entry.path} has {status.st_size} bytes, less than watch.min_file_bytes "
                f"({config.watch.min_file_bytes}); it is not taken for a tile"
            )
            continue
        yield RawTile(mosaic, name.image, Path(entry.path), status.st_size, status.st_mtime_ns)


def _batch(config: Config, mosaic: int, batch: int, found: dict[int, list[RawTile]]) -> RawBatch:
    expected = config.acquisition.raw_tile_bytes(_label(config, mosaic))
    problems = []
    for image, tiles in sorted(found.items()):
        if len(tiles) > 1:
            names = " and ".join(str(tile.path) for tile in tiles)
            problems.append(
                f"image {image:04d} of mosaic {mosaic:03d} is there twice: {names}. Move the "
                "wrong one out of the source folder; which one is wrong is not guessed."
            )
        problems += [problem for tile in tiles if (problem := _wrong_file(config, tile, expected))]
    images = naming.images_of_batch(batch, config.acquisition.grid_size_y)
    return RawBatch(
        mosaic=mosaic,
        batch=batch,
        tiles=tuple(tile for _, tiles in sorted(found.items()) for tile in tiles),
        missing=tuple(image for image in images if image not in found),
        problems=tuple(problems),
    )


def _wrong_file(config: Config, tile: RawTile, expected: int) -> str | None:
    if not os.access(tile.path, os.R_OK):
        return f"{tile.path} is not readable; correct its permissions"
    if tile.size == expected:
        return None
    how = "truncated or still being written" if tile.size < expected else "too long"
    scan = config.acquisition
    return (
        f"{tile.path} has {tile.size} bytes, expected {expected} "
        f"({scan.alines(_label(config, tile.mosaic))} A-lines x {scan.tile_size_y} B-lines x "
        f"2 cameras x {scan.samples_per_aline} samples x 2 + 352): {how}. Wait for it or restore "
        "it, or correct the tile size in the configuration."
    )


def _beyond_message(config: Config, mosaic: int, images: list[int]) -> str:
    scan = config.acquisition
    columns = scan.columns(_label(config, mosaic))
    return (
        f"mosaic {mosaic:03d}: {len(images)} tiles lie beyond the grid of {columns} x "
        f"{scan.grid_size_y} (image {min(images):04d} to {max(images):04d}) and are ignored; "
        "correct acquisition.grid_size_x or grid_size_y if the grid is larger"
    )
