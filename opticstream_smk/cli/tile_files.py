"""What the commands for tile infos share: the file, the size of a tile, lists of numbers."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opticstream_smk.config import Config
    from opticstream_smk.mosaic import TileInfo


@dataclass(frozen=True)
class TilemapFile:
    """A template or a tile info, and the project that it is of, if any.

    Attributes
    ----------
    path, text, info
        The file, and what it says.
    config, acquisition
        Of the project; None where no configuration was given.
    """

    path: Path
    text: str
    info: "TileInfo"
    config: "Config | None"
    acquisition: str | None

    @property
    def positions_px(self) -> "NDArray[np.float64]":
        """(N, 2) y, x of each tile's first pixel."""
        import numpy as np

        return np.array([(tile.y, tile.x) for tile in self.info.tiles])

    @property
    def numbers(self) -> list[int]:
        """Number of each tile."""
        return [tile.tile_number for tile in self.info.tiles]

    def cells(self) -> "NDArray[np.int64]":
        """(N, 2) row and column, 0-based: of the configured grid, else from the positions."""
        if self.config is None or self.acquisition is None:
            from opticstream_smk.mosaic.tile_grid import cells_of_positions

            return cells_of_positions(self.positions_px, self.numbers)
        from opticstream_smk.stages.tilemap import cells

        grid = cells(self.config, self.acquisition)
        beyond = [number for number in self.numbers if number > len(grid)]
        if beyond:
            raise ConfigError(
                f"{self.path} has tile {beyond[0]}, the grid of a {self.acquisition} mosaic has "
                f"{len(grid)} tiles. Correct --config or --acquisition, or leave --config out."
            )
        return grid[[number - 1 for number in self.numbers]]


def add_tilemap(parser: argparse.ArgumentParser) -> None:
    """The file, and the project that it is of."""
    parser.add_argument(
        "tilemap", type=Path, metavar="TILEMAP", help="template (tilemap-normal.j2) or tile info"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration of the project; without it, the grid is taken from the positions",
    )
    parser.add_argument(
        "--acquisition",
        metavar="A",
        help="normal, tilted, ...; with --config, where the name of TILEMAP does not say it",
    )


def given_tilemap(arguments: argparse.Namespace) -> TilemapFile:
    """The file that the command line names.

    Raises
    ------
    ConfigError, IncompleteInputError, CorruptInputError
        It, or the configuration, cannot be used.
    """
    from opticstream_smk.mosaic.drop_tiles import parse_any

    path: Path = arguments.tilemap
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise IncompleteInputError(f"{path}: no such file. Correct its path.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CorruptInputError(f"{path} cannot be read ({reason}).") from error
    info = parse_any(text, source=str(path))
    if arguments.config is None:
        return TilemapFile(path, text, info, None, None)
    from opticstream_smk.config import load_config

    config = load_config(arguments.config)
    return TilemapFile(path, text, info, config, _acquisition(arguments, config))


def _acquisition(arguments: argparse.Namespace, config: "Config") -> str:
    labels = config.acquisition.labels
    if arguments.acquisition is None:
        found = [label for label in labels if arguments.tilemap.stem == f"tilemap-{label}"]
        if not found:
            raise ConfigError(
                f"{arguments.tilemap} does not say by its name which acquisition it is of; give "
                f"--acquisition, one of {', '.join(labels)}"
            )
        return found[0]
    if arguments.acquisition not in labels:
        raise ConfigError(
            f"--acquisition {arguments.acquisition}: expected one of {', '.join(labels)}"
        )
    return str(arguments.acquisition)


def number_list(text: str) -> list[int]:
    """Whole numbers from 1 on, as in ``1,3-4``; for argparse."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise argparse.ArgumentTypeError(f"{text!r}: expected numbers such as 1,3-4")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high:
            raise argparse.ArgumentTypeError(f"{part!r}: expected numbers from 1 on, rising")
        numbers += range(low, high + 1)
    return numbers
