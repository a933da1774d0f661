"""A configuration proposed from the files of a raw folder."""

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from opticstream_smk import naming
from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.naming.inputs import InputNames, ParsedName, PresetName


@dataclass
class Proposal:
    """Values by ``section.key``, and what was seen or must be checked, by key."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def propose(raw: Path, project: Path) -> Proposal:
    """Look at names, sizes and one header.

    Raises
    ------
    IncompleteInputError
        No folder, or no file whose name follows any preset.
    CorruptInputError
        The header of the first tile cannot be read.
    """
    preset, files = _best_preset(raw)
    proposal = Proposal()
    proposal.values |= {
        "project.name": project.name,
        "project.dir": str(project),
        "acquisition.sources": [{"dir": str(raw)}],
    }
    saving_type = _saving_type([name for name, _ in files])
    proposal.values["acquisition.tile_saving_type"] = saving_type
    if preset != "legacy":
        proposal.values["acquisition.filename_preset"] = preset
    if preset == "macaque":
        proposal.values["acquisition.mosaics_per_slice"] = 3
    kind = "complex" if saving_type.startswith("complex") else "spectral"
    tiles = [(name, path) for name, path in files if name.kind == kind]
    if saving_type == "processed":
        tiles = [(name, path) for name, path in files if name.modality == "aip"]
        _propose_maps(proposal, {name.modality for name, _ in files})
    _propose_grid(proposal, [name for name, _ in tiles])
    _propose_tile_size(proposal, tiles, interleaved=preset == "macaque")
    if saving_type != "processed":
        _propose_calibration(proposal, raw)
    return proposal


def _best_preset(raw: Path) -> tuple[str, list[tuple[ParsedName, Path]]]:
    try:
        found = {preset: _parsed(raw, InputNames(preset=preset)) for preset in get_args(PresetName)}
    except OSError as error:
        raise IncompleteInputError(
            f"{raw} cannot be listed ({error.strerror}); name the folder that the microscope "
            "writes to"
        ) from error
    preset = max(found, key=lambda name: len(found[name]))
    if not found[preset]:
        raise IncompleteInputError(
            f"no file in {raw} is named like a raw tile (presets: {', '.join(found)}). Name the "
            "right folder, or set acquisition.filename_pattern yourself."
        )
    return preset, found[preset]


def _parsed(raw: Path, names: InputNames) -> list[tuple[ParsedName, Path]]:
    found = []
    for inner in names.subfolders:
        folder = raw / inner
        if inner != "." and not folder.is_dir():
            continue
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = names.parse(entry.name)
            if name is not None:
                found.append((name, Path(entry.path)))
    return found


def _saving_type(names: list[ParsedName]) -> str:
    kinds = {name.kind for name in names}
    if "processed" in kinds and "spectral" in kinds:
        return "processed_with_spectral"
    if kinds == {"processed"} and {"aip", "surf"} <= {name.modality for name in names}:
        return "processed"
    if "complex" in kinds:
        return "complex_with_spectral" if "spectral" in kinds else "complex"
    packed = any(name.kind == "spectral" and name.suffix == ".raw" for name in names)
    return "spectral_12bit" if packed else "spectral"


def _propose_maps(proposal: Proposal, found: set[str | None]) -> None:
    """Maps that are linked and stitched: those that the host made."""
    maps = [name for name in ("aip", "mip", "ret", "ori", "biref") if name in found]
    proposal.values["processing.modalities"] = maps
    proposal.values["mosaic.modalities"] = [*maps, "surf"]
    if not {"ori", "biref"} <= found:
        proposal.values["registration.enabled"] = False
        proposal.notes["registration.enabled"] = "It needs orientation and birefringence."
    proposal.notes["acquisition.tile_saving_type"] = (
        "CHECK: there are maps only; with spectra in another folder, name that one."
    )


def _propose_grid(proposal: Proposal, names: list[ParsedName]) -> None:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for name in names:
        if name.mosaic is not None:
            counts[naming.acquisition_of_mosaic(name.mosaic)][name.mosaic] += 1
    if not counts:
        proposal.notes["acquisition.grid_size_y"] = (
            f"CHECK: {len(names)} tiles are numbered continuously, so the grid cannot be seen."
        )
        proposal.values["acquisition.grid_size_y"] = 1
        return
    tiles = {label: max(counter.values()) for label, counter in counts.items()}
    normal = tiles.get(naming.NORMAL, max(tiles.values()))
    rows = max(r for r in range(1, int(normal**0.5) + 1) if normal % r == 0)
    pairs = ", ".join(f"{normal // r} x {r}" for r in range(1, normal + 1) if normal % r == 0)
    proposal.values["acquisition.grid_size_y"] = rows
    proposal.notes["acquisition.grid_size_y"] = (
        f"CHECK: the largest mosaic has {normal} tiles: columns x rows may be {pairs}."
    )
    for label in (naming.NORMAL, naming.TILTED):
        count = tiles.get(label, normal)
        proposal.values[f"acquisition.grid_size_x_{label}"] = -(-count // rows)


def _propose_tile_size(
    proposal: Proposal, tiles: list[tuple[ParsedName, Path]], *, interleaved: bool
) -> None:
    import nibabel

    for label in (naming.NORMAL, naming.TILTED):
        path = next(
            (p for name, p in tiles if _label(name) in (label, None) and p.suffix == ".nii"), None
        )
        if path is None:
            continue
        saving_type = proposal.values["acquisition.tile_saving_type"]
        try:
            first, second, third = (*nibabel.load(path).shape, 1)[:3]
        except Exception as error:
            raise CorruptInputError(
                f"the header of {path} cannot be read ({error}); is it still being written?"
            ) from error
        if saving_type == "processed":  # (X, Y) or (X, Y, 1); the depth is not told
            alines, blines = first, second
        elif saving_type.startswith("complex"):
            alines, blines = first // 4, second
            proposal.values["acquisition.samples_per_aline"] = (third + 24) * 2
        else:
            alines, blines = second // (6 if interleaved else 2), third
            proposal.values["acquisition.samples_per_aline"] = first
        proposal.values |= {
            f"acquisition.tile_size_x_{label}": alines,
            "acquisition.tile_size_y": blines,
        }
        proposal.notes[f"acquisition.tile_size_x_{label}"] = f"As the header of {path.name} says."
    if "acquisition.tile_size_y" not in proposal.values:
        proposal.values["acquisition.tile_size_y"] = 350
        proposal.notes["acquisition.tile_size_y"] = (
            "CHECK: files without header do not tell the tile size."
        )


def _label(name: ParsedName) -> str | None:
    return None if name.mosaic is None else naming.acquisition_of_mosaic(name.mosaic)


def _propose_calibration(proposal: Proposal, raw: Path) -> None:
    calibration = sorted(raw.glob("wave*.mat")) or sorted(raw.glob("*.mat"))
    key = "acquisition.calibration_file"
    if calibration:
        proposal.values[key] = str(calibration[0])
    else:
        proposal.values[key] = str(raw / "wave-pixel.mat")
        proposal.notes[key] = "CHECK: no MATLAB file lies beside the tiles; name the lab's own."
    dispersion = sorted(raw.glob("*disp*"))
    if dispersion:
        proposal.values["acquisition.dispersion_file"] = str(dispersion[0])
