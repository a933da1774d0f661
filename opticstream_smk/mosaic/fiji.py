"""Fiji's "Grid/Collection stitching", run on exported tiles without a window."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.errors import (
    ConfigError,
    OpticStreamError,
    QualityError,
    ResourceError,
    ServiceError,
)
from opticstream_smk.io.atomic import write_error
from opticstream_smk.layout import FIJI_FOLDER
from opticstream_smk.mosaic.tile_configuration import (
    given_positions,
    places_of_images,
    read_tile_configuration,
)
from opticstream_smk.programs.own_folder import own_folder
from opticstream_smk.programs.run import ProgramRun, last_lines, run_program, signal_name
from opticstream_smk.programs.supervise import NOT_STARTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.config.fiji import FijiSection

log = logging.getLogger(__name__)

_REGISTERED = "TileConfiguration.registered.txt"
_GRID_TYPES = {
    "row-by-row": "Grid: row-by-row",
    "column-by-column": "Grid: column-by-column",
    "snake-by-rows": "Grid: snake by rows",
    "snake-by-columns": "Grid: snake by columns",
}
# Fiji's own names of these two end in blanks, and a macro must name them to the letter.
_ORDERS = {name: f"{name:<28}" for name in ("Right & Down", "Down & Right")}
# Text that Fiji prints, the error that it means, and what to do.
_CAUSES: tuple[tuple[str, type[OpticStreamError], str], ...] = (
    (
        r"OutOfMemoryError|Out of memory|<Out of memory>",
        ResourceError,
        "Fiji ran out of memory. Raise mosaic.fiji.java_memory_mb",
    ),
    (
        r"Unrecognized command|Command not found|not a valid choice",
        ConfigError,
        'Fiji does not know this command of "Grid/Collection stitching". Install a current Fiji '
        "(not plain ImageJ) with the Stitching plugin",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        ServiceError,
        "Fiji could not write: the disk is full. Free some space",
    ),
)


def find_fiji(fiji: FijiSection) -> Path:
    """Absolute path of Fiji's launcher; nothing is started.

    Raises
    ------
    ConfigError
        It is not configured, or not there.
    """
    if fiji.executable is None:
        raise ConfigError(
            "mosaic.method fiji needs mosaic.fiji.executable, Fiji's launcher, such as "
            "/opt/Fiji.app/ImageJ-linux64"
        )
    found = shutil.which(fiji.executable)
    if found is None:
        raise ConfigError(
            f"mosaic.fiji.executable {fiji.executable} is not there or cannot be executed on this "
            "host; give its full path, or install Fiji"
        )
    return Path(os.path.abspath(found))  # noqa: PTH100  # keeps links, by which Fiji finds itself


def run_fiji(
    tiles: Sequence[NDArray[Any]] | NDArray[Any],
    *,
    columns: int,
    rows: int,
    grid_type: str,
    order: str,
    overlap_percent: float,
    fiji: FijiSection,
    folder: Path,
    label: str,
) -> NDArray[np.float64]:
    """Positions of tiles as Fiji finds them.

    Tiles are exported into a new folder, where Fiji writes its files: what lies there was written
    by this run. The folder is removed in the end. Fiji's output goes into the log.

    Parameters
    ----------
    tiles
        (y, x) images in the order of acquisition, one for each cell; read one by one. What is not
        finite is 0 for Fiji, which then finds nothing to link in a missing tile.
    columns, rows, grid_type, order, overlap_percent
        As `snake_order` and `solve_positions` take them.
    fiji
        How Fiji is started.
    folder
        Where the folder is made; it takes as much room as the tiles do as float32.
    label
        Part of its name. What a killed run with the same label left is removed, so no two may run
        at a time.

    Returns
    -------
    numpy.ndarray
        (N, 2) y, x, px, as Fiji prints them; tiles that it could not link are at (0, 0), see
        `adopt_positions`.

    Raises
    ------
    ConfigError
        Fiji is not there, or cannot do this; the folder's name cannot stand in a macro.
    OpticStreamError
        It failed, took too long, or left no complete result; tells what it said last.
    """
    program = find_fiji(fiji)
    with own_folder(folder, f"{FIJI_FOLDER}{label}-") as own:
        names = _export(tiles, own)
        macro = own / "stitch.ijm"
        text = stitching_macro(
            own,
            columns=columns,
            rows=rows,
            grid_type=grid_type,
            order=order,
            overlap_percent=overlap_percent,
            n_tiles=len(names),
        )
        _write(macro, text.encode())
        words = [str(program), *fiji.words(macro)]
        log.info("fiji for %d tiles: %s", len(names), words)
        done = run_program(words, limit_s=fiji.timeout_s, name="fiji", folder=own)
        _check_run(done, program, fiji.timeout_s)
        return _read_result(own / _REGISTERED, names, done)


def stitching_macro(
    folder: Path,
    *,
    columns: int,
    rows: int,
    grid_type: str,
    order: str,
    overlap_percent: float,
    n_tiles: int,
) -> str:
    """The macro that has Fiji compute positions of the tiles in a folder.

    Thresholds are those of OpticStream and psoct-toolbox: regression 0.30, maximum to average
    displacement 2.50, absolute displacement 3.50 px. Positions are computed below the pixel, and
    nothing is fused or shown.

    Raises
    ------
    ConfigError
        The name of the folder cannot stand in a macro.
    """
    path = str(folder)
    if re.search(r"[\[\]\r\n]", path):
        raise ConfigError(
            f"{path}: macros of Fiji cannot name a folder with brackets or line breaks. Set "
            "project.dir to a link without them."
        )
    options = [
        f"type=[{_GRID_TYPES[grid_type]}]",
        f"order=[{_fiji_order(grid_type, order)}]",
        f"grid_size_x={columns}",
        f"grid_size_y={rows}",
        f"tile_overlap={overlap_percent:g}",
        "first_file_index_i=1",
        f"file_names=tile_{{{'i' * _digits(n_tiles)}}}.tif",
        "output_textfile_name=TileConfiguration.txt",
        "fusion_method=[Do not fuse images (only write TileConfiguration)]",
        "regression_threshold=0.30",
        "max/avg_displacement_threshold=2.50",
        "absolute_displacement_threshold=3.50",
        "compute_overlap",
        "subpixel_accuracy",
        "computation_parameters=[Save computation time (but use more RAM)]",
        "image_output=[Fuse and display]",
        # Last: the first text that looks like a key counts, and a path may.
        f"directory=[{path}]",
    ]
    text = " ".join(options).replace("\\", "\\\\").replace('"', '\\"')
    # Without the second line some versions stay for ever.
    return f'run("Grid/Collection stitching", "{text}");\neval("script", "System.exit(0);");\n'


def _fiji_order(grid_type: str, order: str) -> str:
    """The order as Fiji calls it: the direction along the first line comes first."""
    words = sorted(order.split("-"), key=lambda word: word in ("left", "right"))
    if "row" in grid_type:
        words.reverse()
    name = " & ".join(word.capitalize() for word in words)
    return _ORDERS.get(name, name)


def _digits(n_tiles: int) -> int:
    return max(4, len(str(n_tiles)))


def _export(tiles: Sequence[NDArray[Any]] | NDArray[Any], folder: Path) -> list[str]:
    """Write the tiles as TIFF; returns their names."""
    import tifffile

    digits = _digits(len(tiles))
    names = []
    for number, image in enumerate(tiles, start=1):
        name = f"tile_{number:0{digits}d}.tif"
        pixels = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        try:
            tifffile.imwrite(folder / name, pixels, photometric="minisblack")
        except OSError as error:
            raise write_error(folder / name, error) from error
        names.append(name)
    return names


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise write_error(path, error) from error


def _check_run(done: ProgramRun, program: Path, limit_s: float) -> None:
    said = f" It said last:\n{last_lines(done.lines)}"
    if done.code is None:
        raise ServiceError(
            f"Fiji was ended after {limit_s:g} s without coming to an end; expected "
            f"mosaic.fiji.timeout_s at most. See what it waits for, or raise that.{said}"
        )
    if done.code == 0:
        return
    if done.code == NOT_STARTED:
        raise ConfigError(
            f"{program} cannot be started; correct mosaic.fiji.executable, or install Fiji.{said}"
        )
    _raise_cause(done, said)
    if done.code > 128:
        raise ResourceError(
            f"Fiji was ended by {signal_name(done.code - 128)}; if that was for want of memory, "
            f"lower mosaic.fiji.java_memory_mb, or give the job more.{said}"
        )
    raise OpticStreamError(
        f"Fiji ended with exit code {done.code}, expected 0. Mend what it says, or set "
        f"mosaic.method: native.{said}"
    )


def _raise_cause(done: ProgramRun, said: str) -> None:
    for pattern, kind, text in _CAUSES:
        if any(re.search(pattern, line, re.IGNORECASE) for line in done.lines):
            raise kind(f"{text}.{said}")


def _read_result(path: Path, names: Sequence[str], done: ProgramRun) -> NDArray[np.float64]:
    said = f" It said last:\n{last_lines(done.lines)}"
    if not path.is_file():
        _raise_cause(done, said)
        raise QualityError(
            f"Fiji ended with exit code 0 and left no {path.name}, expected one with "
            f"{len(names)} tiles. Mend what it says, or set mosaic.method: native.{said}"
        )
    places = read_tile_configuration(path)
    image_of = {name: image for image, name in enumerate(names, start=1)}
    images = range(1, len(names) + 1)
    found = places_of_images(places, images, source=str(path), image_of=image_of.get)
    if len(found) < len(names):
        missing = [name for name, image in image_of.items() if image not in found]
        raise QualityError(
            f"{path.name} of Fiji lists {len(found)} of {len(names)} tiles, without "
            f"{', '.join(missing[:5])}; expected all. Mend what it says.{said}"
        )
    return given_positions(found, images)
