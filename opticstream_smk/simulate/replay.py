"""A recorded acquisition, once more: its raw tiles arrive in another folder as they once did."""

import json
import logging
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from itertools import count
from pathlib import Path
from typing import get_args

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io.atomic import write_error
from opticstream_smk.naming.inputs import InputNames, ParsedName, PresetName

log = logging.getLogger(__name__)

RECORD_NAME = "replay.json"
TEMPORARY_SUFFIXES = (".tmp", ".part")

# As the simulator writes slowly: some two seconds per file, longer than a watcher's usual poll.
_SLOW_PIECES = 8
_SLOW_PAUSE_S = 0.25
# Small beside a tile, so that a rate is even; large beside the cost of a write.
_PIECE_BYTES = 2**20
# The kinds of a tile's files in the order in which instruments write them.
_KINDS = ("spectral", "complex", "processed")


@dataclass(frozen=True)
class ReplaySettings:
    """How an acquisition is repeated.

    Attributes
    ----------
    interval_s
        Pause before each tile but the first.
    slow_writes
        Files grow in pieces, with pauses.
    temporary_suffix
        Files are written under their name with this suffix, then renamed. None: under their name.
    shuffle
        Tiles come out of order: each fewer than this many places from its own.
    duplicates
        So many tiles are written a second time, later, in place and with the same content.
    twins
        So many tiles get a second file whose name ends in another number: a mistake, which the
        watcher has to report.
    rate_mb_s
        10^6 bytes per second at most, on average over each piece.
    limit
        The first so many tiles only.
    seed
        Of everything that is chosen by chance.
    """

    interval_s: float = 0.0
    slow_writes: bool = False
    temporary_suffix: str | None = None
    shuffle: int = 0
    duplicates: int = 0
    twins: int = 0
    rate_mb_s: float | None = None
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least: dict[str, float] = {"interval_s": 0, "shuffle": 0, "duplicates": 0, "twins": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ConfigError(
                    f"replay: {name} is {getattr(self, name)}, expected {bound} or more"
                )
        if self.rate_mb_s is not None and not self.rate_mb_s > 0:
            raise ConfigError(f"replay: rate_mb_s is {self.rate_mb_s}, expected more than 0")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"replay: limit is {self.limit}, expected 1 or more")
        if self.temporary_suffix not in (None, *TEMPORARY_SUFFIXES):
            raise ConfigError(
                f"replay: temporary_suffix is {self.temporary_suffix!r}, expected one of "
                f"{', '.join(TEMPORARY_SUFFIXES)}"
            )


@dataclass(frozen=True)
class RawTile:
    """The files of one tile, relative to the folder, in the order in which they are written."""

    files: tuple[Path, ...]


@dataclass(frozen=True)
class Step:
    """One thing that the instrument does.

    Attributes
    ----------
    what
        ``tile``; ``duplicate``: written again; ``twin``: written under another name.
    files
        Each relative to the source and to the folder that is filled.
    """

    what: str
    files: tuple[tuple[Path, Path], ...]


@dataclass(frozen=True)
class Replayed:
    """What a replay did.

    Attributes
    ----------
    n_tiles, n_duplicates, n_twins
        Steps that wrote something.
    companions
        Files beside the tiles that were copied at the start.
    """

    n_tiles: int
    n_duplicates: int
    n_twins: int
    companions: tuple[Path, ...]
    n_bytes: int
    duration_s: float


def replay(
    source: Path,
    out: Path,
    settings: ReplaySettings | None = None,
    *,
    names: InputNames | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Replayed:
    """Let the raw tiles of a folder arrive in another one, in order of acquisition.

    Files that are no tiles (calibration, dispersion, truth) are copied first. In the end every
    file is byte for byte that of the source, which is only ever read. A replay that was
    interrupted goes on with the first tile that is not complete; one that is complete writes
    nothing.

    Parameters
    ----------
    source
        Folder of a recorded or simulated acquisition.
    out
        Folder to fill; made if needed.
    names
        How the tiles are named; None: as the preset says that fits most of them.

    Raises
    ------
    ConfigError
        ``out`` lies in ``source`` or holds something else; there are too few tiles to choose
        from; the names have no place for twins.
    IncompleteInputError
        ``source`` cannot be listed or holds no tile.
    CorruptInputError
        A file of ``source`` cannot be read, or changes meanwhile.
    ServiceError
        A file cannot be written.
    """
    settings = settings or ReplaySettings()
    candidates = [names] if names else [InputNames(preset=each) for each in get_args(PresetName)]
    listed = _list(source, {inner for each in candidates for inner in each.subfolders})
    names = max(candidates, key=lambda each: sum(_parse(path, each) is not None for path in listed))
    tiles = _tiles(listed, names, source)
    companions = _companions(listed, names)
    steps = _plan(tiles[: settings.limit], settings, names)
    _claim(source, out, settings, steps, companions)
    player = _Player(source, out, settings, sleep, clock)
    copied = tuple(path for path in companions if player.copy(path))
    done = player.play(steps)
    return Replayed(
        done["tile"],
        done["duplicate"],
        done["twin"],
        tuple(out / path for path in copied),
        player.n_bytes,
        player.elapsed_s,
    )


# ------------------------------------------------------------------------------------- the source
def _list(source: Path, subfolders: Collection[str]) -> list[Path]:
    """Files of a folder and of some folders in it, relative to it."""
    try:
        files = [
            path.relative_to(source)
            for inner in sorted(subfolders)
            if inner == "." or (source / inner).is_dir()
            for path in sorted((source / inner).iterdir())
            if path.is_file()
        ]
    except OSError as error:
        raise IncompleteInputError(
            f"{source} cannot be listed ({error.strerror}); name the folder of an acquisition"
        ) from error
    # Hidden files, and those that a writer has not finished.
    return [
        path
        for path in files
        if not path.name.startswith(".") and path.suffix not in TEMPORARY_SUFFIXES
    ]


def _parse(path: Path, names: InputNames) -> ParsedName | None:
    inside = path.parent.as_posix() in names.subfolders
    return names.parse(path.name) if inside else None


def _tiles(files: Sequence[Path], names: InputNames, source: Path) -> list[RawTile]:
    """Tiles in order of acquisition: by slice, mosaic and image, as their names tell."""
    tiles: dict[tuple[int, int, int], list[tuple[int, Path]]] = {}
    for path in files:
        name = _parse(path, names)
        if name is not None:
            key = (name.slice or 0, name.position or 0, name.image)
            tiles.setdefault(key, []).append((_KINDS.index(name.kind), path))
    if not tiles:
        raise IncompleteInputError(
            f"no file in {source} is named like a raw tile. Name the right folder, or the "
            "configuration that says how its files are named."
        )
    return [RawTile(tuple(path for _, path in sorted(tiles[key]))) for key in sorted(tiles)]


def _companions(files: Sequence[Path], names: InputNames) -> list[Path]:
    return [
        path
        for path in files
        if path.parent == Path() and _parse(path, names) is None and path.name != RECORD_NAME
    ]


# --------------------------------------------------------------------------------------- the plan
def _plan(tiles: Sequence[RawTile], settings: ReplaySettings, names: InputNames) -> list[Step]:
    """Everything that will be written, in order; equal settings give an equal plan."""
    chance = random.Random(settings.seed)
    taken = {path for tile in tiles for path in tile.files}
    order = list(range(len(tiles)))
    if settings.shuffle > 1:
        # Keys less than `shuffle` apart from the own place move a tile by less than that.
        keys = [place + chance.random() * settings.shuffle for place in order]
        order.sort(key=keys.__getitem__)
    timed = [
        (float(place), Step("tile", tuple((path, path) for path in tiles[index].files)))
        for place, index in enumerate(order)
    ]
    late = {"duplicate": settings.duplicates, "twin": settings.twins}
    for what, number in late.items():
        if number > len(tiles):
            raise ConfigError(f"replay: {number} {what}s of {len(tiles)} tiles; ask for fewer")
        for place in sorted(chance.sample(range(len(tiles)), number)):
            files = timed[place][1].files
            if what == "twin":
                files = ((files[0][0], _twin(files[0][0], names, taken)),)
            # After some later tile, the last one included.
            timed.append((chance.randint(place, len(tiles) - 1) + 0.5, Step(what, files)))
    return [step for _, step in sorted(timed, key=lambda entry: entry[0])]


_LAST_NUMBER = re.compile(r"(?<=_)([0-9]+)(?=\.[A-Za-z.]+$)")


def _twin(path: Path, names: InputNames, taken: Collection[Path]) -> Path:
    """A second name for the same tile: another number at its end."""
    match = _LAST_NUMBER.search(path.name)
    if match is None:
        raise _no_twin(path)
    for number in count(int(match[1]) + 5000):
        end = f"{number:0{len(match[1])}d}{path.name[match.end() :]}"
        twin = path.with_name(path.name[: match.start()] + end)
        if names.parse(twin.name) != names.parse(path.name):
            raise _no_twin(path)
        if twin not in taken:
            break
    return twin


def _no_twin(path: Path) -> ConfigError:
    return ConfigError(
        f"replay: no second file can stand for the tile of {path.name}, because its name has no "
        "number beside that of the image; leave twins out"
    )


# ---------------------------------------------------------------------------------- the other end
def _claim(
    source: Path,
    out: Path,
    settings: ReplaySettings,
    steps: Sequence[Step],
    companions: Sequence[Path],
) -> None:
    """Record what is replayed in an empty folder, or check that it is what is recorded.

    The record comes before the data, so that an interrupted replay can go on.
    """
    inside, holds = out.resolve(), source.resolve()
    if inside == holds or holds in inside.parents:
        raise ConfigError(
            f"{out} lies in {source}, which is only read; choose a folder outside of it"
        )
    chosen = {key: asdict(settings)[key] for key in ("shuffle", "duplicates", "twins", "limit")}
    wanted = {"source": str(holds), "seed": settings.seed, **chosen}
    record = out / RECORD_NAME
    try:
        found = _recorded(record)
        present = _present(out)
        if found is None and not present:
            out.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(wanted, indent=1) + "\n")
            return
    except OSError as error:
        raise write_error(record, error) from error
    if found is None:
        raise ConfigError(
            f"{out} is not empty ({present[0]}) and has no {RECORD_NAME}: it may hold real data. "
            "Choose an empty or a new folder."
        )
    differing = sorted(key for key in wanted if found.get(key) != wanted[key])
    if differing:
        raise ConfigError(
            f"{out} holds a replay with another {', '.join(differing)} (see {RECORD_NAME}). Choose "
            "another folder, use the recorded values, or remove the folder."
        )
    ours = {RECORD_NAME, *(path.as_posix() for path in companions)}
    for step in steps:
        for _, target in step.files:
            ours |= {target.as_posix() + end for end in ("", *TEMPORARY_SUFFIXES)}
    foreign = [name for name in present if name not in ours]
    if foreign:
        raise ConfigError(
            f"{out} holds {foreign[0]}, which is not of this replay. Move it away, or choose "
            "another folder."
        )


def _recorded(record: Path) -> dict[str, object] | None:
    try:
        found = json.loads(record.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            f"{record} is not a record of a replay. Choose another folder, or remove it."
        )
    return found


def _present(out: Path) -> list[str]:
    """Files in a folder and below; names with a dot are not data (.gitkeep, .nfs...)."""
    return sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if not path.is_dir() and not path.name.startswith(".")
    )


class _Player:
    """Writes files as the instrument did."""

    def __init__(
        self,
        source: Path,
        out: Path,
        settings: ReplaySettings,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._out = out
        self._settings = settings
        self._sleep = sleep
        self._clock = clock
        self._began = self._next_write = clock()
        self.n_bytes = 0

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    def copy(self, path: Path) -> bool:
        """Copy a file that is no tile, complete or not at all; whether it was missing."""
        if self._is_complete(path, path):
            return False
        target = self._out / path
        part = target.with_name(f".{target.name}.part")
        self._write(path, part, n_pieces=1)
        part.replace(target)
        return True

    def play(self, steps: Sequence[Step]) -> Counter[str]:
        """Do what is not done yet; returns how many steps of each kind have written something."""
        todo = self._todo(steps)
        n_tiles = sum(step.what == "tile" for step in steps)
        n_there = n_tiles - sum(step.what == "tile" for step in todo)
        if n_there:
            log.info("%d of %d tiles are there", n_there, n_tiles)
        done: Counter[str] = Counter()
        for step in todo:
            if step.what == "tile" and done["tile"] and self._settings.interval_s > 0:
                self._sleep(self._settings.interval_s)
            began, before = self._clock(), self.n_bytes
            for source, target in step.files:
                self._deliver(step, source, target)
            done[step.what] += 1
            self._tell(step, n_there + done["tile"], n_tiles, self.n_bytes - before, began)
        return done

    def _todo(self, steps: Sequence[Step]) -> list[Step]:
        """Tiles that are not complete, and all that is written late after the first of them."""
        lacks = [
            any(not self._is_complete(source, target) for source, target in step.files)
            for step in steps
        ]
        first = lacks.index(True) if True in lacks else len(steps)
        return [
            step
            for index, step in enumerate(steps)
            if lacks[index] or (index > first and step.what != "tile")
        ]

    def _is_complete(self, source: Path, target: Path) -> bool:
        try:
            return (self._out / target).stat().st_size == (self._source / source).stat().st_size
        except OSError:
            return False

    def _deliver(self, step: Step, source: Path, target: Path) -> None:
        path = self._out / target
        pieces = _SLOW_PIECES if self._settings.slow_writes else 1
        suffix = self._settings.temporary_suffix
        if suffix is None or step.what == "duplicate":
            self._write(source, path, pieces)
            return
        part = path.with_name(path.name + suffix)
        self._write(source, part, pieces)
        part.replace(path)

    def _write(self, name: Path, target: Path, n_pieces: int) -> None:
        """Write the bytes of a file of the source, in pieces with pauses between them."""
        path = self._source / name
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            raise _unreadable(path, error) from error
        with file:
            size = os.fstat(file.fileno()).st_size
            piece = max(1, -(-size // n_pieces))
            written = 0
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb", buffering=0) as out:
                    while written < size:
                        if written and n_pieces > 1:
                            self._sleep(_SLOW_PAUSE_S)
                        written += self._copy_piece(file, out, min(piece, size - written), path)
            except OSError as error:
                raise write_error(target, error) from error
            if os.fstat(file.fileno()).st_size != size:
                raise _changed(path)

    def _copy_piece(self, file: FileIO, out: FileIO, n_bytes: int, path: Path) -> int:
        done = 0
        while done < n_bytes:
            try:
                data = file.read(min(_PIECE_BYTES, n_bytes - done))
            except OSError as error:
                raise _unreadable(path, error) from error
            if not data:
                raise _changed(path)
            self._pace(len(data))
            view = memoryview(data)
            while view:
                view = view[out.write(view) :]
            done += len(data)
            self.n_bytes += len(data)
        return done

    def _pace(self, n_bytes: int) -> None:
        """Wait until a piece may be written at the given rate."""
        if self._settings.rate_mb_s is None:
            return
        now = self._clock()
        if self._next_write > now:
            self._sleep(self._next_write - now)
        self._next_write = max(self._next_write, now) + n_bytes / (self._settings.rate_mb_s * 1e6)

    def _tell(self, step: Step, done: int, total: int, n_bytes: int, began: float) -> None:
        took = self._clock() - began
        speed = f", {n_bytes / 1e6 / took:.0f} MB/s" if took > 0 else ""
        what = {"duplicate": "written again: ", "twin": "second file: "}.get(step.what, "")
        log.info(
            "tile %d of %d (%d %%)  %s%s  %.1f MB%s",
            done,
            total,
            100 * done // total,
            what,
            step.files[0][1].name,
            n_bytes / 1e6,
            speed,
        )


def _unreadable(path: Path, error: OSError) -> CorruptInputError:
    return CorruptInputError(
        f"{path} cannot be read ({error.strerror}); correct its permissions or restore it"
    )


def _changed(path: Path) -> CorruptInputError:
    return CorruptInputError(
        f"{path} changes while it is read; replay an acquisition that is finished"
    )
