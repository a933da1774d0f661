import os
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from opticstream_smk.config import Config, load_config

REPO = Path(__file__).resolve().parents[1]

# How long an example takes says how busy the machine is, and the first one compiles.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def repo() -> Path:
    return REPO


def small_values(**overrides):
    """Configuration of a project of tiny tiles: 2 columns x 2 rows, two mosaics per slice."""
    values = {
        "project": {"name": "test block", "dir": "project"},
        "acquisition": {
            "sources": [{"dir": "raw"}],
            "grid_size_x_normal": 2,
            "grid_size_x_tilted": 2,
            "grid_size_y": 2,
            "tile_size_x_normal": 12,
            "tile_size_x_tilted": 10,
            "tile_size_y": 8,
            "samples_per_aline": 256,
            "tile_overlap_percent": 25,
            "calibration_file": "raw/wave-pixel.mat",
        },
        "watch": {"min_file_bytes": 1000, "stability_s": 0},
        "volume": {"enabled": False},
        # Tests that run side by side must not wait for each other.
        "run": {"token_dir": "tokens"},
    }
    for key, value in overrides.items():
        section, _, field = key.partition("__")
        values.setdefault(section, {})[field] = value
    return values


@pytest.fixture
def make_config(tmp_path):
    """Write a small configuration and load it; keyword section__field overrides a value."""

    def make(**overrides) -> Config:
        path = tmp_path / "project.yaml"
        path.write_text(yaml.safe_dump(small_values(**overrides)))
        (tmp_path / "raw").mkdir(exist_ok=True)
        return load_config(path)

    return make


@pytest.fixture
def write_raw():
    """Write raw files of the configured size, without content that could be processed."""

    def write(config: Config, mosaic: int, images, *, size: int | None = None) -> list[Path]:
        label = config.acquisition.labels[(mosaic - 1) % 2]
        paths = []
        for image in images:
            name = f"mosaic_{mosaic:03d}_image_{image:04d}_spectral_{image:04d}.nii"
            path = config.acquisition.sources[0].dir / name
            with path.open("wb") as file:
                os.truncate(
                    file.fileno(),
                    config.acquisition.raw_tile_bytes(label) if size is None else size,
                )
            paths.append(path)
        return paths

    return write


@pytest.fixture
def as_somebody_else():
    """Act as a user that is not root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)
