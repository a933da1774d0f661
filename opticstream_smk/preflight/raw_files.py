"""What the source folders hold: files that are tiles, and files that are not."""

import os
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.config.acquisition import input_names
from opticstream_smk.naming.inputs import EXTENSIONS, InputNames, PresetName
from opticstream_smk.preflight.check import Check, counted, failed, note, ok, some, warning
from opticstream_smk.trigger.batches import RawFile, needed_files
from opticstream_smk.trigger.discover import discover


@dataclass(frozen=True)
class RawFiles:
    """The raw files of a project.

    Attributes
    ----------
    files
        Every file of every tile, in order of mosaic and image. A file that holds three
        illuminations is there once for each of their mosaics.
    problems
        What discovery says is wrong outside of any batch, by what it is about.
    """

    config: Config
    files: tuple[RawFile, ...]
    problems: Mapping[Hashable, str]

    @cached_property
    def images(self) -> dict[int, set[int]]:
        """Images that have any file, by mosaic."""
        found: dict[int, set[int]] = {}
        for file in self.files:
            found.setdefault(file.mosaic, set()).add(file.image)
        return found

    def label(self, mosaic: int) -> str:
        """Acquisition of a mosaic."""
        return naming.acquisition_of_mosaic(mosaic, self.config.acquisition.mosaics_per_slice)

    @property
    def slices(self) -> int:
        """Slices of which there is any tile."""
        per_slice = self.config.acquisition.mosaics_per_slice
        return len({naming.slice_of_mosaic(mosaic, per_slice)[0] for mosaic in self.images})

    def of_tile(self, mosaic: int, image: int) -> dict[str, RawFile]:
        """Files of a tile by modality."""
        return {
            file.modality: file
            for file in self.files
            if (file.mosaic, file.image) == (mosaic, image)
        }

    def raw_tiles(self) -> list[RawFile]:
        """One file for each raw tile: see `AcquisitionSection.main_file`."""
        main = self.config.acquisition.main_file
        labels = self.config.acquisition.labels
        counted = labels[:1] if self.config.acquisition.illuminations > 1 else labels
        return [
            file
            for file in self.files
            if file.modality == main and self.label(file.mosaic) in counted
        ]


def look(config: Config) -> RawFiles:
    """List the source folders once; what is only archived is left out."""
    found = discover(config)
    needed = needed_files(config)
    files = [file for batch in found.batches for file in batch.files if file.modality in needed]
    return RawFiles(
        config, tuple(sorted(files, key=lambda f: (f.mosaic, f.image))), dict(found.problems)
    )


def check_names(config: Config, raw: RawFiles) -> list[Check]:
    """Which files are tiles, and which look like tiles and are none."""
    taken = {file.path for file in raw.files}
    names = input_names(config.acquisition)
    others: Counter[str] = Counter()
    strangers: list[Path] = []
    for path in _listed(config):
        if path in taken:
            continue
        parsed = None if path.name.startswith(".") else names.parse(path.name)
        if parsed is not None:
            kind = parsed.modality if parsed.kind == "processed" else parsed.kind
            others[f"{kind}{parsed.suffix}"] += 1
        elif _is_large(config, path):
            strangers.append(path)
    checks = [_recognised(config, len(taken), others)]
    if strangers:
        checks.append(_strangers(config, strangers, any_tile=bool(taken)))
    wrong = [
        message
        for about, message in raw.problems.items()
        if isinstance(about, tuple) and about[0] in ("name", "file")
    ]
    if wrong:
        checks.append(
            warning(
                "file names",
                f"{len(wrong)} files are left out: {some(wrong)}",
                "whole tiles with names that fit",
                "Look at each of them",
            )
        )
    return checks


def check_files(raw: RawFiles) -> list[Check]:
    """Files that are there twice, and files that cannot be read."""
    checks = []
    twins = Counter((file.mosaic, file.image, file.modality) for file in raw.files)
    doubled = [
        f"image {image:04d} of mosaic {mosaic:03d} ({modality})"
        for (mosaic, image, modality), count in sorted(twins.items())
        if count > 1
    ]
    if doubled:
        checks.append(
            failed(
                "data",
                "raw tiles",
                f"{len(doubled)} are there twice: {some(doubled)}",
                "one file for each tile",
                "Move the wrong ones out of the source folder; which they are is not guessed",
            )
        )
    closed = [
        str(path)
        for path in dict.fromkeys(file.path for file in raw.files)
        if not os.access(path, os.R_OK, effective_ids=True)
    ]
    if closed:
        checks.append(
            failed(
                "service",
                "raw tiles",
                f"{len(closed)} are not readable: {some(closed)}",
                "files that this user may read",
                "Correct their permissions",
            )
        )
    return checks


def _listed(config: Config) -> list[Path]:
    found = []
    for source in config.acquisition.sources:
        for inner in input_names(config.acquisition).subfolders:
            try:
                with os.scandir(source.dir / inner) as entries:
                    found += [Path(entry.path) for entry in entries if not entry.is_dir()]
            except OSError:
                continue  # the check of the folder says why
    return sorted(set(found))


def _is_large(config: Config, path: Path) -> bool:
    try:
        large = path.stat().st_size >= config.watch.min_file_bytes
    except OSError:
        return False
    return large and not path.name.startswith(".") and path.name.lower().endswith(EXTENSIONS)


def _recognised(config: Config, tiles: int, others: Counter[str]) -> Check:
    scan = config.acquisition
    name, kinds = "file names", ", ".join(f"{count} {kind}" for kind, count in others.items())
    needed = " and ".join(needed_files(config))
    if tiles:
        rest = f"; {kinds} are not needed for tile_saving_type {scan.tile_saving_type}"
        return ok(
            name,
            f"{counted(tiles, 'file')} of tiles ({needed}){rest if others else ''}",
            tiles=tiles,
        )
    if others:
        suffix = ".raw" if scan.tile_saving_type == "spectral_12bit" else ".nii"
        return failed(
            "config",
            name,
            f"no file is taken for a tile, although {kinds} files are named like tiles",
            f"{needed} files ({suffix}) for acquisition.tile_saving_type {scan.tile_saving_type}, "
            "in the mosaic_ranges and of the acquisition of their source",
            "Correct acquisition.tile_saving_type or acquisition.sources",
        )
    return note(name, "no tile yet")


def _strangers(config: Config, paths: list[Path], *, any_tile: bool) -> Check:
    listed = some([path.name for path in paths])
    found = f"{counted(len(paths), 'file')} named like tiles of another naming: {listed}"
    scan = config.acquisition
    used = scan.filename_pattern or scan.filename_preset
    preset = _preset_of(paths, except_for=used)
    remedy = (
        f"Set acquisition.filename_preset: {preset}"
        if preset
        else "Set acquisition.filename_pattern, or leave them if they are something else"
    )
    expected = f"names as {used} has them"
    if any_tile or preset is None:
        return warning("file names", found, expected, remedy)
    return failed("config", "file names", found, expected, remedy)


def _preset_of(paths: list[Path], *, except_for: str) -> str | None:
    """The preset that reads most of some names; None when none does."""
    counts = {
        preset: sum(InputNames(preset=preset).parse(path.name) is not None for path in paths)
        for preset in get_args(PresetName)
        if preset != except_for
    }
    best = max(counts, key=lambda preset: counts[preset])
    return best if counts[best] else None
