"""What one look of the watcher costs: 10,560 files, 660 batches, in CPU seconds.

Limits: 0.25 s while everything is followed, 0.05 s when all is done. The last column compares
with a plain listing with one stat per file in the same run, so that a slow machine shows.
"""

import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from opticstream_smk.config import load_config
from opticstream_smk.trigger.psoct import PsoctBatches
from opticstream_smk.trigger.settle import Intake, Settler

MOSAICS = 30
VALUES = {
    "project": {"name": "poll cost", "dir": "project"},
    "acquisition": {
        "sources": [{"dir": "raw"}],
        "tile_size_x_normal": 12,
        "tile_size_x_tilted": 10,
        "tile_size_y": 8,
        "samples_per_aline": 256,
        "calibration_file": "wave-pixel.mat",
    },
    "watch": {"min_file_bytes": 1000},
}


def write_raw(folder: Path, config) -> int:
    folder.mkdir()
    for mosaic in range(1, MOSAICS + 1):
        size = config.acquisition.raw_tile_bytes("normal" if mosaic % 2 else "tilted")
        for image in range(1, 22 * 16 + 1):
            name = f"mosaic_{mosaic:03d}_image_{image:04d}_spectral_{image:04d}.nii"
            with (folder / name).open("wb") as file:
                os.truncate(file.fileno(), size)
    return MOSAICS * 22 * 16


def cpu(action) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> int:
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "project.yaml").write_text(yaml.safe_dump(VALUES))
        config = load_config(root / "project.yaml")
        files = write_raw(root / "raw", config)
        now = [0.0]
        intake = Intake(PsoctBatches(config, clock=lambda: now[0]), Settler(lambda: now[0]))

        def plain():
            with os.scandir(root / "raw") as entries:
                sum(entry.stat().st_size for entry in entries)

        bare = median(cpu(plain) for _ in range(5))
        rows = [("first look, names are parsed", [cpu(intake.look)])]
        followed = []
        for _ in range(3):
            now[0] += 5
            followed.append(cpu(intake.look))
        rows.append(("all followed", followed))
        now[0] += 5
        rows.append(("660 batches entered at once", [cpu(intake.look)]))
        rows.append(("all entered, none processed", [cpu(intake.look) for _ in range(9)]))
        for ready in (root / "project").glob("mosaic-*/state/batch-*.ready"):
            ready.with_suffix(".processed").touch()
        rows.append(("all of that noticed", [cpu(intake.look)]))
        rows.append(("all processed", [cpu(intake.look) for _ in range(9)]))
        print(f"{files} files, {files // 16} batches; listing and stat alone {bare:.3f} CPU s")
        for what, times in rows:
            print(f"{what:<32} {median(times):7.3f} CPU s  {median(times) / bare:6.2f} x")
        ok = median(followed) <= 0.25 and median(rows[-1][1]) <= 0.05
        print("within the limits" if ok else "BEYOND THE LIMITS (0.25, 0.05)")
        return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
