"""A synthetic acquisition on disk, in the instrument's format."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError
from opticstream_smk.simulate.enface import enface_tile
from opticstream_smk.simulate.files import HostTile, host_alines, host_tiles, spectral_bits
from opticstream_smk.simulate.formats import spectral_header, write_nifti, write_spectra
from opticstream_smk.simulate.host import complex_tile, processed_tile
from opticstream_smk.simulate.settings import AcquisitionSettings
from opticstream_smk.simulate.tile import render_interleaved, spectrometer
from opticstream_smk.simulate.truth import compute_truth

# Raised whenever equal settings give other files than before.
SIMULATOR_VERSION = 1

RECORD_NAME = "simulation.json"
TRUTH_NAME = "truth.npz"
CALIBRATION_NAME = "wave-pixel.mat"
DISPERSION_NAME = "dispersion.bin"

# A slow write takes about two seconds per file, longer than a watcher's usual poll.
_SLOW_PIECES = 8
_SLOW_PAUSE_S = 0.25

# Files under their temporary names, and their names.
_Parts = list[tuple[Path, Path]]


@dataclass(frozen=True)
class SimulatedAcquisition:
    """What `simulate_psoct` left in a folder.

    Attributes
    ----------
    out_dir
        The folder.
    tiles
        One file of each tile in order of acquisition: spectra; complex tiles if there are no
        spectra; AIP maps if there are maps only.
    products
        Other files of the tiles, in the same order: complex beside spectra, and processed tiles.
    calibration, dispersion, truth
        The other files.
    written
        The files that this call wrote; empty if all were there.
    """

    out_dir: Path
    tiles: tuple[Path, ...]
    products: tuple[Path, ...]
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

    The folder gets the tiles (below), ``wave-pixel.mat``, ``dispersion.bin``, ``truth.npz`` (see
    `truth.compute_truth`) and ``simulation.json``, which records the parameters. A folder that
    holds the same acquisition is left alone, but for files that are missing or of the wrong size,
    which are written again, the same as before.

    Files of a tile start with ``mosaic_%03d_image_%04d``, where mosaics alternate normal and
    tilted, and images are 1-based in snake order:

    - ``_spectral_%04d.nii``, 16-bit spectra, or ``_spectral_%04d.raw``, packed 12-bit ones; both
      image numbers are equal;
    - ``_processed.nii``, Jones components;
    - ``_{aip,mip,ret,ori,biref,surf,dBI}.nii``, what the host has processed: biref without
      spectra only, dBI with spectra only.

    Three mosaics per slice come as ``spectral_%04d.nii`` (or ``.raw``), numbered through all
    slices.

    Parameters
    ----------
    settings
        The acquisition.
    out_dir
        Folder to fill; made if needed.
    interval_s
        Seconds to wait before each tile but the first.
    slow_writes
        Files of tiles grow in place, in pieces with pauses, instead of appearing complete.
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
    tiles = host_tiles(settings)
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

    todo = [tile for tile in (_unfinished(tile, folder) for tile in tiles) if tile.files]
    with _tile_parts(settings, folder, todo, workers) as computed:
        for done, parts in enumerate(computed, start=1):
            if done > 1 and interval_s > 0:
                time.sleep(interval_s)
            for part, path in parts:
                _publish(part, path, slow=slow_writes)
                written.append(path)
            if progress is not None:
                progress(done, len(todo))
    return SimulatedAcquisition(
        folder,
        tuple(folder / tile.files[0].name for tile in tiles),
        tuple(folder / file.name for tile in tiles for file in tile.files[1:]),
        result[CALIBRATION_NAME],
        result[DISPERSION_NAME],
        result[TRUTH_NAME],
        tuple(written),
    )


def _unfinished(tile: HostTile, folder: Path) -> HostTile:
    """The tile with only those files that are missing or of the wrong size."""
    missing = (file for file in tile.files if _size(folder / file.name) != file.size)
    return replace(tile, files=tuple(missing))


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
    settings: AcquisitionSettings, folder: Path, todo: list[HostTile], workers: int
) -> Iterator[Iterator[_Parts]]:
    """Files of tiles under temporary names, in order, computed here or by a pool."""
    if workers <= 1 or len(todo) <= 1:
        yield (_render_parts(settings, folder, tile) for tile in todo)
        return
    # spawn: a forked child would inherit locks that other threads may hold.
    pool = ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn"))
    try:
        futures: list[Future[_Parts]] = [
            pool.submit(_render_parts, settings, folder, tile) for tile in todo
        ]
        yield (future.result() for future in futures)
    finally:
        pool.shutdown(cancel_futures=True)


def _render_parts(settings: AcquisitionSettings, folder: Path, tile: HostTile) -> _Parts:
    """Write the files of a tile under their temporary names.

    Spectra alone take one B-line of memory at a time; what is computed from them, the tile.
    """
    paths = {file.kind: folder / file.name for file in tile.files}
    parts = {kind: _part(path) for kind, path in paths.items()}
    if settings.saving_type == "processed":
        _write_volumes(settings, enface_tile(settings, tile.mosaics[0], tile.image), parts)
        return [(parts[kind], path) for kind, path in paths.items()]
    blines: Iterable[NDArray[np.uint16]]
    blines = render_interleaved(settings, tile.mosaics, tile.image)
    if parts.keys() != {"spectral"}:
        blines = np.stack(list(blines))
        _write_computed(settings, blines, parts)
    if "spectral" in parts:
        bits = spectral_bits(settings)
        with parts["spectral"].open("wb") as file:
            if bits == 16:
                alines = host_alines(settings, tile.mosaics[0])
                file.write(spectral_header(alines, settings.blines, settings.samples))
            write_spectra(file, blines, bits)
    return [(parts[kind], path) for kind, path in paths.items()]


def _write_computed(
    settings: AcquisitionSettings, spectra: NDArray[np.uint16], parts: Mapping[str, Path]
) -> None:
    """Write what the host computes from (Y, 2, X, N) spectra, by kind."""
    computed: dict[str, NDArray[Any]] = {}
    if "complex" in parts:
        computed["complex"] = complex_tile(settings, spectra)
    if parts.keys() - {"spectral", "complex"}:
        computed |= processed_tile(settings, spectra)
    _write_volumes(settings, computed, parts)


def _write_volumes(
    settings: AcquisitionSettings,
    volumes: Mapping[str, NDArray[Any]],
    parts: Mapping[str, Path],
) -> None:
    """Write those (X, Y, Z) arrays that have a file, by kind."""
    x_um, y_um, z_um = settings.voxel_um
    for kind, volume in volumes.items():
        if kind in parts:
            # A map stands for the whole cut.
            step_um = settings.slice_thickness_um if volume.shape[2] == 1 else z_um
            with parts[kind].open("wb") as file:
                write_nifti(file, volume, (x_um / 1000, y_um / 1000, step_um / 1000))


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
