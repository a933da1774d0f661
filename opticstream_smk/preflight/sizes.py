"""Sizes of the raw files, and the header of the first one, against the configuration."""

import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

from opticstream_smk.naming import TILTED
from opticstream_smk.preflight.check import Check, counted, failed, note, ok, some, warning
from opticstream_smk.preflight.raw_files import RawFiles
from opticstream_smk.trigger.batches import RawFile

_HEADER_BYTES = 352  # 348 B NIfTI-1 header + 4 B extension flag


def check_sizes(raw: RawFiles) -> list[Check]:
    """Every raw file against the size that the configuration gives; headers once each."""
    if raw.config.acquisition.maps_are_input:
        return []  # maps are checked by their shape, when they are read
    checks = []
    for label in raw.config.acquisition.labels:
        tiles = [file for file in raw.raw_tiles() if raw.label(file.mosaic) == label]
        if tiles:
            checks += _check_label(raw, label, tiles)
    return checks


def is_being_written(raw: RawFiles, file: RawFile) -> bool:
    """Whether a file changed so lately that it need not be complete."""
    return time.time() - file.mtime_ns / 1e9 < raw.config.watch.stability_s


def fits(raw: RawFiles, file: RawFile) -> bool:
    """Whether a spectral or complex file has the size that the configuration gives."""
    if file.modality not in ("spectral", "complex"):
        return True
    label = raw.label(file.mosaic)
    return file.size == raw.config.acquisition.raw_tile_bytes(label, file.modality)


def _check_label(raw: RawFiles, label: str, tiles: list[RawFile]) -> list[Check]:
    scan = raw.config.acquisition
    kind = tiles[0].modality
    expected = scan.raw_tile_bytes(label, kind)
    name = f"size of {label} tiles" if scan.illuminations == 1 else "size of tiles"
    header = _Header.read(tiles[0].path) if tiles[0].path.suffix == ".nii" else None
    wrong = [file for file in tiles if file.size != expected]
    growing = [file for file in wrong if is_being_written(raw, file)]
    wrong = [file for file in wrong if file not in growing]
    checks: list[Check] = []
    sizes = Counter(file.size for file in wrong)
    geometry = _geometry(raw, label, kind)
    if wrong and len(wrong) == len(tiles) and len(sizes) == 1:
        size = next(iter(sizes))
        told = f"; the header of {tiles[0].path.name} says {header.text(kind)}" if header else ""
        checks.append(
            failed(
                "config",
                name,
                f"all {len(tiles)} files have {size} bytes{told}",
                f"{expected} bytes ({geometry})",
                _remedy(raw, label, kind, size, header),
            )
        )
        return checks
    if wrong:
        listed = some([f"{file.path} has {file.size} bytes" for file in wrong])
        checks.append(
            failed(
                "data",
                name,
                f"{len(wrong)} of {len(tiles)} files are truncated or too long: {listed}",
                f"{expected} bytes ({geometry})",
                "Restore them; their batches are not processed",
            )
        )
    elif len(growing) < len(tiles):
        checks.append(
            ok(
                name,
                f"{counted(len(tiles) - len(growing), 'file')} of {expected} bytes, {geometry}",
            )
        )
    if growing:
        checks.append(note(name, f"{counted(len(growing), 'file')} still being written"))
    if header is not None and not wrong:
        checks += _check_header(raw, label, kind, tiles[0].path, header)
    return checks


def _check_header(
    raw: RawFiles, label: str, kind: str, path: Path, header: "_Header"
) -> list[Check]:
    if header.dims == _dims(raw, label, kind):
        return []
    return [
        warning(
            f"header of {path.name}",
            f"{header.text(kind)}, although the file is as long as configured",
            _geometry(raw, label, kind),
            "The configuration counts. If the header is right, correct the tile size "
            f"({_remedy(raw, label, kind, 0, header)})",
        )
    ]


class _Header:
    """Dimensions of a NIfTI-1 header."""

    def __init__(self, dims: tuple[int, int, int]) -> None:
        self.dims = dims

    @classmethod
    def read(cls, path: Path) -> "_Header | None":
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        except OSError:
            return None  # the check of the files says why
        if len(header) < _HEADER_BYTES or struct.unpack_from("<i", header)[0] != 348:
            return None
        dim: Any = struct.unpack_from("<8h", header, 40)
        return cls(dim[1:4]) if dim[0] >= 3 else None

    def text(self, kind: str) -> str:
        first, second, third = self.dims
        if kind == "spectral":
            return f"{first} samples x {second} A-lines of both cameras x {third} B-lines"
        return f"{first} = 4 x A-lines, {second} B-lines, depth {third}"


def _dims(raw: RawFiles, label: str, kind: str) -> tuple[int, int, int]:
    scan = raw.config.acquisition
    alines = scan.alines(label) * scan.illuminations
    if kind == "spectral":
        return scan.samples_per_aline, 2 * alines, scan.tile_size_y
    return 4 * alines, scan.tile_size_y, scan.depth_samples


def _geometry(raw: RawFiles, label: str, kind: str) -> str:
    scan = raw.config.acquisition
    alines = str(scan.alines(label))
    if scan.illuminations > 1:
        alines = f"{scan.illuminations} x {alines}"
    depth = (
        f"2 cameras x {scan.samples_per_aline} samples"
        if kind == "spectral"
        else f"depth {scan.depth_samples}"
    )
    return f"{alines} A-lines x {scan.tile_size_y} B-lines x {depth}, {scan.tile_saving_type}"


def _remedy(raw: RawFiles, label: str, kind: str, size: int, header: _Header | None) -> str:
    """Keys of the configuration, with the value that would fit."""
    found = _from_header(raw, kind, header) if header else _from_size(raw, label, kind, size)
    wanted = _configured(raw, label)
    changes = [
        f"{_key(label, name)}: {value} instead of {wanted[name]}"
        for name, value in found
        if value != wanted[name]
    ]
    if not changes:
        return "Correct the tile size, samples_per_aline or tile_saving_type"
    joined = (" and " if header else " or ").join(changes)
    return f"Set {joined}"


def _configured(raw: RawFiles, label: str) -> dict[str, int]:
    scan = raw.config.acquisition
    return {
        "samples_per_aline": scan.samples_per_aline,
        "tile_size_x": scan.alines(label),
        "tile_size_y": scan.tile_size_y,
    }


def _key(label: str, name: str) -> str:
    if name != "tile_size_x":
        return f"acquisition.{name}"
    return f"acquisition.tile_size_x_{TILTED if label == TILTED else 'normal'}"


def _from_header(raw: RawFiles, kind: str, header: _Header) -> list[tuple[str, int]]:
    """What a header says about the three sizes."""
    illuminations = raw.config.acquisition.illuminations
    first, second, third = header.dims
    if kind == "spectral":
        sizes = (first, second // (2 * illuminations), third)
    else:
        sizes = ((third + 24) * 2, first // 4, second)
    return list(zip(("samples_per_aline", "tile_size_x", "tile_size_y"), sizes, strict=True))


def _from_size(raw: RawFiles, label: str, kind: str, size: int) -> list[tuple[str, int]]:
    """Values of each of the three sizes, the others as configured, that a length allows."""
    scan = raw.config.acquisition
    x, y = scan.alines(label) * scan.illuminations, scan.tile_size_y
    if kind == "complex":
        voxels, depth = (size - _HEADER_BYTES) / 16, scan.depth_samples
        tried = {
            "samples_per_aline": (voxels / (x * y) + 24) * 2,
            "tile_size_x": voxels / (y * depth),
            "tile_size_y": voxels / (x * depth),
        }
    else:
        packed = scan.tile_saving_type == "spectral_12bit"
        counts = size / 1.5 if packed else (size - _HEADER_BYTES) / 2
        n = scan.samples_per_aline
        tried = {
            "samples_per_aline": counts / (2 * x * y),
            "tile_size_x": counts / (2 * scan.illuminations * y * n),
            "tile_size_y": counts / (2 * x * n),
        }
    least = {"samples_per_aline": 128, "tile_size_x": 4, "tile_size_y": 4}
    return [
        (name, int(value))
        for name, value in tried.items()
        if value == int(value)
        and value >= least[name]
        # Samples are even.
        and not (name == "samples_per_aline" and value % 2)
    ]
