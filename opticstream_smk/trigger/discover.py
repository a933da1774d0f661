"""The source folders of a project, listed again and again."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from os import DirEntry
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.config.acquisition import Source, input_names
from opticstream_smk.errors import NamingError
from opticstream_smk.naming.inputs import ParsedName
from opticstream_smk.naming.sequence import AcquisitionSequence, place_interleaved
from opticstream_smk.trigger.batches import (
    BatchKey,
    RawBatch,
    RawFile,
    TilesFound,
    file_signature,
    make_batch,
    taken_files,
)
from opticstream_smk.trigger.sources import SourceFolder


@dataclass
class Discovery:
    """What the source folders hold.

    Attributes
    ----------
    batches
        In order of mosaic and batch, without those that are settled.
    signatures
        For each settled batch, a number that changes with the names and inodes of its files.
    problems
        What is wrong outside of any batch, by what it is about.
    away
        Batches whose folder cannot be seen now.
    """

    batches: list[RawBatch] = field(default_factory=list)
    signatures: dict[BatchKey, int] = field(default_factory=lambda: defaultdict(int))
    problems: dict[Hashable, str] = field(default_factory=dict)
    away: set[BatchKey] = field(default_factory=set)


def discover(config: Config) -> Discovery:
    """List all source folders once and group their files into batches."""
    return RawFolders(config).look()


class RawFolders:
    """The source folders of a project.

    Nothing is opened: names, sizes and permissions decide. A name is parsed once.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folders = [
            _Folder(config, source, source.dir / inner, optional=inner != ".")
            for source in config.acquisition.sources
            for inner in input_names(config.acquisition).subfolders
        ]

    def look(self, settled: Collection[BatchKey] = frozenset()) -> Discovery:
        """List every folder once.

        Parameters
        ----------
        settled
            Batches whose files are not looked at: they cost no stat, only their names and inodes
            are compared with the last look.
        """
        found = Discovery()
        grouped: dict[BatchKey, TilesFound] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        beyond: dict[int, set[int]] = defaultdict(set)
        for folder in self._folders:
            folder.look(settled, found, grouped, beyond)
        for mosaic, images in sorted(beyond.items()):
            found.problems["beyond", mosaic] = _beyond_message(self._config, mosaic, images)
        found.batches = [
            make_batch(self._config, mosaic, batch, grouped[mosaic, batch])
            for mosaic, batch in sorted(grouped)
        ]
        return found


@dataclass(frozen=True)
class _Tile:
    """What the name of a file says: which tiles of which batches it holds."""

    path: Path
    modality: str
    places: tuple[tuple[int, int], ...]
    keys: tuple[BatchKey, ...]
    beyond: tuple[tuple[int, int], ...]


class _Folder:
    """One folder of a source, with what its names were found to mean."""

    def __init__(self, config: Config, source: Source, path: Path, *, optional: bool) -> None:
        self.path = path
        self._config = config
        self._folder = SourceFolder(path)
        self._optional = optional
        names = input_names(config.acquisition)
        if source.acquisition is not None and not names.is_continuous:
            names = names.only(None, None, source.acquisition)
        self._names = names
        self._ranges = naming.parse_mosaic_ranges(source.mosaic_ranges)
        self._slice_offset = source.slice_offset
        self._places = _Places(config, source)
        self._taken = taken_files(config)
        packed = config.acquisition.tile_saving_type == "spectral_12bit"
        self._suffix = ".raw" if packed else ".nii"
        # By file name: its tiles; a message; None for a name that is no tile.
        self._known: dict[str, _Tile | str | None] = {}
        self._keys: set[BatchKey] = set()

    def look(
        self,
        settled: Collection[BatchKey],
        found: Discovery,
        grouped: Mapping[BatchKey, TilesFound],
        beyond: Mapping[int, set[int]],
    ) -> None:
        if self._optional and not _may_be_there(self.path):
            return
        entries = self._folder.entries(in_use=bool(self._keys))
        if entries is None:
            found.problems["source", str(self.path)] = self._folder.message or "is away"
            found.away |= self._keys
            return
        # Names that have gone are forgotten with the old dictionary.
        before, self._known = self._known, {}
        keys: set[BatchKey] = set()
        for entry in entries:
            name = entry.name
            tile = before[name] if name in before else self._parse(name)
            self._known[name] = tile
            if tile is None:
                continue
            if isinstance(tile, str):
                found.problems["name", entry.path] = f"{entry.path}: {tile}"
                continue
            keys.update(tile.keys)
            if tile.keys and all(key in settled for key in tile.keys):
                for key in tile.keys:
                    found.signatures[key] += file_signature(name, entry.inode())
                continue
            for mosaic, image in tile.beyond:
                beyond[mosaic].add(image)
            file = self._stat(entry, tile, found) if tile.places else None
            if file is not None:
                self._add(tile, file, settled, grouped)
        self._keys = keys

    def _add(
        self,
        tile: _Tile,
        file: tuple[Path, int, int, int, int],
        settled: Collection[BatchKey],
        grouped: Mapping[BatchKey, TilesFound],
    ) -> None:
        for key, (mosaic, image) in zip(tile.keys, tile.places, strict=True):
            if key not in settled:
                raw = RawFile(mosaic, image, tile.modality, *file)
                grouped[key][image][tile.modality].append(raw)

    def _parse(self, name: str) -> _Tile | str | None:
        # Hidden files, and the ._ twins that macOS leaves on shares.
        parsed = None if name.startswith(".") else self._names.parse(name)
        modality = self._modality(parsed) if parsed else None
        if parsed is None or modality is None:
            return None
        scan = self._config.acquisition
        try:
            found = [
                (naming.offset_mosaic(mosaic, self._slice_offset, scan.mosaics_per_slice), image)
                for mosaic, image in self._places.of(parsed)
                if any(first <= mosaic <= last for first, last in self._ranges)
            ]
            placed = [(place, self._batch(*place)) for place in found]
        except NamingError as error:
            return str(error)
        inside = [(place, batch) for place, batch in placed if batch is not None]
        return _Tile(
            self.path / name,
            modality,
            tuple(place for place, _ in inside),
            tuple((mosaic, batch) for (mosaic, _), batch in inside),
            tuple(place for place, batch in placed if batch is None),
        )

    def _batch(self, mosaic: int, image: int) -> int | None:
        scan = self._config.acquisition
        label = naming.acquisition_of_mosaic(mosaic, scan.mosaics_per_slice)
        batch = naming.batch_of_image(image, scan.rows(label))
        return batch if batch <= scan.columns(label) else None

    def _modality(self, name: ParsedName) -> str | None:
        """The modality of a file, if such files are processed or archived."""
        modality = name.modality if name.kind == "processed" else name.kind
        return modality if modality in self._taken and name.suffix == self._suffix else None

    def _stat(
        self, entry: DirEntry[str], tile: _Tile, found: Discovery
    ) -> tuple[Path, int, int, int, int] | None:
        try:
            if not entry.is_file():
                return None
            status = entry.stat()
        except FileNotFoundError:
            return None  # renamed or removed since the listing
        except OSError as error:
            found.problems["file", entry.path] = f"{entry.path} cannot be seen: {error.strerror}"
            return None
        least = self._config.watch.min_file_bytes
        if status.st_size < least and tile.modality in ("spectral", "complex"):
            found.problems["file", entry.path] = (
                f"{entry.path} has {status.st_size} bytes, less than watch.min_file_bytes "
                f"({least}); it is not taken for a tile"
            )
            return None
        return (
            tile.path,
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
            status.st_ctime_ns,
        )


def _may_be_there(folder: Path) -> bool:
    """Whether a folder is there, or nobody can tell: listing it then says why."""
    try:
        return folder.is_dir()
    except OSError:
        return True


class _Places:
    """Which tiles of the source a file holds."""

    def __init__(self, config: Config, source: Source) -> None:
        scan = config.acquisition
        names = input_names(scan)
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


def _beyond_message(config: Config, mosaic: int, images: set[int]) -> str:
    scan = config.acquisition
    label = naming.acquisition_of_mosaic(mosaic, scan.mosaics_per_slice)
    return (
        f"mosaic {mosaic:03d}: {len(images)} tiles lie beyond the grid of {scan.columns(label)} x "
        f"{scan.rows(label)} (image {min(images):04d} to {max(images):04d}) and are ignored; "
        "correct acquisition.grid_size_x or grid_size_y if the grid is larger"
    )
