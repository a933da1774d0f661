"""A synthetic acquisition on disk, in the instrument's format."""

import json
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import scipy.io

from opticstream_smk.errors import ConfigError
from opticstream_smk.simulate.settings import AcquisitionSettings
from opticstream_smk.simulate.tile import render_tile, slice_and_view, spectrometer
from opticstream_smk.simulate.truth import compute_truth

# Raised whenever equal settings give other files than before.
SIMULATOR_VERSION = 1

RECORD_NAME = "simulation.json"
TRUTH_NAME = "truth.npz"
CALIBRATION_NAME = "wave-pixel.mat"
DISPERSION_NAME = "dispersion.bin"

HEADER_BYTES = 352  # 348 B NIfTI-1 header + 4 B extension flag
_UINT16_CODE = 512
# A slow write takes about two seconds per tile, longer than a watcher's usual poll.
_SLOW_PIECES = 8
_SLOW_PAUSE_S = 0.25


@dataclass(frozen=True)
class SimulatedAcquisition:
    """What `simulate_psoct` left in a folder.

    Attributes
    ----------
    out_dir
        The folder.
    tiles
        Raw tiles in order of acquisition.
    calibration, dispersion, truth
        The other files.
    written
        The files that this call wrote; empty if all were there.
    """

    out_dir: Path
    tiles: tuple[Path, ...]
    calibration: Path
    dispersion: Path
    truth: Path
    written: tuple[Path, ...]


def simulate_psoct(
    settings: AcquisitionSettings,
    out_dir: Path | str,
    *,
    interval_s: float = 0.0,
    slow_writes: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedAcquisition:
    """Write a synthetic PS-OCT acquisition as the instrument would.

    The folder gets ``mosaic_%03d_image_%04d_spectral_%04d.nii`` (mosaics alternate normal and
    tilted; images 1-based in snake order; both image numbers equal), ``wave-pixel.mat``,
    ``dispersion.bin``, ``truth.npz`` (see `truth.compute_truth`) and ``simulation.json``, which
    records the parameters. A folder that holds the same acquisition is left alone, but for files
    that are missing or of the wrong size, which are written again, the same as before.

    Parameters
    ----------
    settings
        The acquisition.
    out_dir
        Folder to fill; made if needed.
    interval_s
        Seconds to wait before each tile but the first.
    slow_writes
        Tiles grow in place, in pieces with pauses, instead of appearing complete.
    workers
        Processes that compute tiles. Tiles appear in order of acquisition and are the same
        whatever the number, as each has a random stream of its own. They are processes because
        a B-line is many short array operations, most of which threads would run in turn.
        With more than one, call this from a module that can be imported.
    progress
        Called with (tiles done, tiles to do) after each tile.

    Raises
    ------
    ConfigError
        The folder holds something else.
    """
    folder = Path(out_dir)
    names = _tile_names(settings)
    result = {name: folder / name for name in (CALIBRATION_NAME, DISPERSION_NAME, TRUTH_NAME)}
    _claim(settings, folder)
    written: list[Path] = []

    for name, write in (
        (CALIBRATION_NAME, _write_calibration),
        (DISPERSION_NAME, _write_dispersion),
        (TRUTH_NAME, _write_truth),
    ):
        if not result[name].is_file():
            part = _part(result[name])
            write(settings, part)
            part.rename(result[name])
            written.append(result[name])

    todo = [
        (mosaic, image, folder / name)
        for (mosaic, image), name in names.items()
        if _size(folder / name) != tile_bytes(settings, mosaic)
    ]
    with _tile_parts(settings, todo, workers) as parts:
        for done, ((_, _, path), part) in enumerate(zip(todo, parts, strict=True), start=1):
            if done > 1 and interval_s > 0:
                time.sleep(interval_s)
            _publish(part, path, slow=slow_writes)
            written.append(path)
            if progress is not None:
                progress(done, len(todo))
    return SimulatedAcquisition(
        folder,
        tuple(folder / name for name in names.values()),
        result[CALIBRATION_NAME],
        result[DISPERSION_NAME],
        result[TRUTH_NAME],
        tuple(written),
    )


def tile_bytes(settings: AcquisitionSettings, mosaic: int) -> int:
    """Size of a raw tile: header, and two bytes per sample of two channels."""
    blines, alines = settings.tile_shape(slice_and_view(mosaic)[1])
    return HEADER_BYTES + 2 * settings.samples * 2 * alines * blines


def nifti_header(settings: AcquisitionSettings, mosaic: int) -> bytes:
    """NIfTI-1 header of a raw tile: uint16, dimensions (samples, 2 A-lines, B-lines).

    The second dimension holds the A-lines of channel 1, then those of channel 2. The fields are
    written by offset, as the instrument's software leaves all others zero.
    """
    blines, alines = settings.tile_shape(slice_and_view(mosaic)[1])
    header = bytearray(HEADER_BYTES)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, settings.samples, 2 * alines, blines, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, _UINT16_CODE, 16)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<ff", header, 108, HEADER_BYTES, 1.0)  # data offset, slope
    header[344:348] = b"n+1\0"
    return bytes(header)


def _tile_names(settings: AcquisitionSettings) -> dict[tuple[int, int], str]:
    """File name of each (mosaic, image), in order of acquisition."""
    names = {}
    for mosaic in range(1, settings.n_mosaics + 1):
        rows, columns = settings.grid_shape(slice_and_view(mosaic)[1])
        for image in range(1, rows * columns + 1):
            stem = f"mosaic_{mosaic:03d}_image_{image:04d}"
            names[mosaic, image] = f"{stem}_spectral_{image:04d}.nii"
    return names


def _claim(settings: AcquisitionSettings, folder: Path) -> None:
    """Record the parameters in an empty folder, or check that they are the recorded ones.

    The record comes before the data, so that an interrupted simulation can go on.
    """
    wanted = {"simulator_version": SIMULATOR_VERSION, "settings": json.loads(settings.to_json())}
    record = folder / RECORD_NAME
    if record.is_file():
        try:
            found = json.loads(record.read_text())
            recorded = {**found["settings"], "simulator_version": found["simulator_version"]}
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{record} is not a record of simulated data. Choose another folder, or remove it."
            ) from None
        current = {**wanted["settings"], "simulator_version": SIMULATOR_VERSION}
        differing = sorted(
            key for key in current.keys() | recorded.keys()
            if current.get(key) != recorded.get(key)
        )  # fmt: skip
        if differing:
            raise ConfigError(
                f"{folder} holds an acquisition simulated with other values of "
                f"{', '.join(differing)} (see {RECORD_NAME}). Choose another folder, use the "
                "recorded values, or remove the folder."
            )
        return
    # Names with a dot are not data (.gitkeep, .nfs...).
    others = sorted(p.name for p in folder.glob("[!.]*")) if folder.exists() else []
    if others:
        raise ConfigError(
            f"{folder} is not empty ({others[0]}) and has no {RECORD_NAME}: it may hold real "
            "data. Choose an empty or a new folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = _part(record)
    part.write_text(json.dumps(wanted, indent=2, sort_keys=True) + "\n")
    part.rename(record)


@contextmanager
def _tile_parts(
    settings: AcquisitionSettings, todo: list[tuple[int, int, Path]], workers: int
) -> Iterator[Iterator[Path]]:
    """Tiles under temporary names, in order, computed here or by a pool."""
    if workers <= 1 or len(todo) <= 1:
        yield (_render_part(settings, *tile) for tile in todo)
        return
    # spawn: a forked child would inherit locks that other threads may hold.
    pool = ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn"))
    try:
        futures: list[Future[Path]] = [pool.submit(_render_part, settings, *tile) for tile in todo]
        yield (future.result() for future in futures)
    finally:
        pool.shutdown(cancel_futures=True)


def _render_part(settings: AcquisitionSettings, mosaic: int, image: int, path: Path) -> Path:
    """Write a tile under its temporary name, one B-line in memory at a time."""
    part = _part(path)
    with part.open("wb") as file:
        file.write(nifti_header(settings, mosaic))
        for bline in render_tile(settings, mosaic, image):
            file.write(bline.astype("<u2", copy=False).tobytes())
    return part


def _publish(part: Path, path: Path, *, slow: bool) -> None:
    """Give a finished tile its name: at once, or growing as a slow writer would."""
    if not slow:
        part.rename(path)
        return
    piece = -(-part.stat().st_size // _SLOW_PIECES)
    with part.open("rb") as source, path.open("wb", buffering=0) as target:
        while data := source.read(piece):
            target.write(data)
            time.sleep(_SLOW_PAUSE_S)
    part.unlink()


def _write_calibration(settings: AcquisitionSettings, path: Path) -> None:
    instrument = spectrometer(settings)
    variables = {"mu": instrument.mu, "wave_prime": instrument.wave_prime_nm}
    scipy.io.savemat(str(path), variables, appendmat=False)


def _write_dispersion(settings: AcquisitionSettings, path: Path) -> None:
    path.write_bytes(spectrometer(settings).dispersion_rad.astype("<f8").tobytes())


def _write_truth(settings: AcquisitionSettings, path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **compute_truth(settings))


def _part(path: Path) -> Path:
    """Temporary name beside a file, hidden from watchers."""
    return path.with_name(f".{path.name}.part")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
