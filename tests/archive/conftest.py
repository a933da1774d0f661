"""Small projects with raw files of noise, and what archives them."""

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from opticstream_smk.config import Config
from opticstream_smk.plan import project_layout
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.stage import run_stage
from opticstream_smk.state.flags import Flag, read_flag
from opticstream_smk.state.places import batch_place
from opticstream_smk.trigger.ready import scan


@dataclass
class Bench:
    """A project: two mosaics of 2 x 2 tiles, all raw files there and ready."""

    config: Config

    def __post_init__(self):
        self.layout = project_layout(self.config)
        self.raw = self.config.acquisition.sources[0].dir
        self.folder = self.config.archive.dir

    def archive(self, mosaic=1, batch=1, **options) -> Flag:
        return run_stage(
            find_stage("archive_batch"), self.config, self.place(mosaic, batch), **options
        )

    def everything(self):
        for mosaic in (1, 2):
            for batch in (1, 2):
                self.archive(mosaic, batch)

    def place(self, mosaic=1, batch=1):
        return batch_place(mosaic, batch, self.config.acquisition.mosaics_per_slice)

    def flag(self, mosaic=1, batch=1, state="archived") -> Flag | None:
        return read_flag(self.layout.batch_flag(mosaic, batch, state))

    def file(self, image=1, label="normal") -> Path:
        name = f"test block_sample-slice01_chunk-{image:04d}_acq-{label}_OCT.nii.gz"
        return self.folder / name

    def raw_file(self, image=1, mosaic=1, kind="spectral") -> Path:
        return next(self.raw.glob(f"mosaic_{mosaic:03d}_image_{image:04d}_{kind}*"))

    def manifest(self, label="normal") -> Path:
        return self.folder / f"test block_sample-slice01_acq-{label}_manifest.csv"

    def rows(self, label="normal") -> list[dict[str, str]]:
        with self.manifest(label).open(newline="") as file:
            return list(csv.DictReader(file))


def noise(path: Path, size: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    path.write_bytes(chance.integers(0, 4096, size // 2 + 1, dtype="<u2").tobytes()[:size])
    os.utime(path, (1.7e9 + seed, 1.7e9 + seed))


@pytest.fixture
def make_bench(make_config):
    """A project whose configuration has other values; keywords section__field."""

    def make(*, kinds=("spectral",), scanned=True, **overrides) -> Bench:
        config = make_config(**{"archive__dir": "archive", **overrides})
        scan_ = config.acquisition
        raw = scan_.sources[0].dir
        packed = scan_.tile_saving_type == "spectral_12bit"
        for number, mosaic in enumerate((1, 2)):
            label = scan_.labels[number]
            for image in range(1, 5):
                for kind in kinds:
                    stem = f"mosaic_{mosaic:03d}_image_{image:04d}"
                    suffix = ".raw" if packed else ".nii"
                    tail = (
                        f"spectral_{image:04d}{suffix}" if kind == "spectral" else "processed.nii"
                    )
                    seed = 100 * mosaic + 10 * image + len(kind)
                    noise(raw / f"{stem}_{tail}", scan_.raw_tile_bytes(label, kind), seed)
        bench = Bench(config)
        if scanned:
            scan(config, assume_stable=True)
        return bench

    return make


@pytest.fixture
def bench(make_bench):
    return make_bench()


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a folder: inode, time and content."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_ino,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def damage(path: Path, how: str) -> None:
    """Change an archived file as disks and people do; its time stays."""
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
    elif how == "truncate":
        del content[len(content) // 2 :]
    elif how == "other":
        content = bytearray(gzip.compress(b"another tile"))
    path.write_bytes(content)
