import subprocess
import sys

import numpy as np
import pytest

from opticstream_smk import estimate
from opticstream_smk.mosaic import canvas_shape, snake_order
from opticstream_smk.trigger.batches import needed_files
from opticstream_smk.trigger.discover import discover
from tests.e2e.conftest import Project
from tests.preflight.conftest import SMALL


def full_size(make_config, **overrides):
    """The instrument's usual grid and tiles."""
    return make_config(
        **{
            "acquisition__grid_size_x_normal": 22,
            "acquisition__grid_size_x_tilted": 22,
            "acquisition__grid_size_y": 16,
            "acquisition__tile_size_x_normal": 350,
            "acquisition__tile_size_x_tilted": 200,
            "acquisition__tile_size_y": 350,
            "acquisition__samples_per_aline": 2048,
            "acquisition__tile_overlap_percent": 20,
            **overrides,
        }
    )


def test_sizes_of_the_instrument(make_config):
    config = full_size(make_config)
    assert estimate.raw_tile_bytes(config, "normal") == 352 + 350 * 350 * 2 * 2048 * 2
    assert estimate.raw_mosaic_bytes(config, "normal") == pytest.approx(353e9, rel=0.01)
    assert estimate.raw_slice_bytes(config) == pytest.approx(555e9, rel=0.01)
    assert estimate.canvas_shape(config, "normal") == (4550, 6230)
    # 16 tiles of a 1.96 GB complex tile and 1.47 GB of volumes.
    assert estimate.batch_product_bytes(config, "normal") == pytest.approx(54.9e9, rel=0.01)


def test_what_is_not_written_is_not_counted(make_config):
    both = full_size(make_config)
    voxels = 16 * 350 * 350 * 1000
    kept = estimate.batch_product_bytes(both, "normal")
    discard = full_size(make_config, processing__complex="discard")
    assert kept - estimate.batch_product_bytes(discard, "normal") == pytest.approx(
        16 * voxels, rel=1e-4
    )
    maps = full_size(make_config, processing__complex="discard",
                     processing__save_volume_outputs=False)  # fmt: skip
    assert estimate.batch_product_bytes(maps, "normal") < 16 * 350 * 350 * 8 * 6
    linked = full_size(make_config, acquisition__tile_saving_type="complex")
    assert kept - estimate.batch_product_bytes(linked, "normal") == pytest.approx(
        16 * voxels, rel=1e-4
    )
    assert estimate.slice_product_bytes(both) > 0
    assert estimate.slice_product_bytes(full_size(make_config, registration__enabled=False)) == 0


def test_a_run_is_its_levels(make_config):
    config = full_size(make_config)
    one = estimate.slice_product_bytes(config)
    for label in ("normal", "tilted"):
        one += 22 * estimate.batch_product_bytes(config, label)
        one += estimate.mosaic_product_bytes(config, label)
    assert estimate.run_product_bytes(config, 19) == 19 * one


def test_three_illuminations_lie_in_one_file(make_config):
    config = full_size(
        make_config, acquisition__mosaics_per_slice=3, acquisition__filename_preset="macaque"
    )
    assert estimate.raw_slice_bytes(config) == 352 * (3 * 350 * 350 * 2 * 2048 * 2 + 352)
    tiles = {label: estimate.tiles_of_mosaic(config, label) for label in config.acquisition.labels}
    assert tiles == {"normal": 352, "tiltPos": 352, "tiltNeg": 352}


def test_the_canvas_is_that_of_the_nominal_grid(make_config):
    config = full_size(make_config)
    row, column = snake_order(16, 22).T
    positions = np.stack([row * 350 * 0.8, column * 350 * 0.8], axis=1)
    shape, _ = canvas_shape(positions, (350, 350))
    assert estimate.canvas_shape(config, "normal") == shape


@pytest.mark.parametrize("saving_type", ["spectral", "spectral_12bit", "complex", "processed",
                                         "processed_with_spectral"])  # fmt: skip
def test_raw_tiles_have_the_estimated_size(saving_type, tmp_path):
    maps = saving_type.startswith("processed")
    modalities = ["aip", "mip", "ret", "ori"]
    project = Project(
        tmp_path,
        tmp_path / "raw",
        {
            **SMALL,
            "acquisition__tile_saving_type": saving_type,
            **({"processing__modalities": modalities, "mosaic__modalities": modalities,
                "registration__enabled": False} if maps else {}),
        },
    )  # fmt: skip
    project.trigger("simulate psoct", "--out", project.raw)
    from opticstream_smk.config import load_config

    config = load_config(project.config)
    for batch in discover(config).batches:
        label = "normal" if batch.mosaic == 1 else "tilted"
        # Spectra beside maps are archived, and nothing is made of them.
        size = sum(f.size for f in batch.files if f.modality in needed_files(config))
        assert size == pytest.approx(2 * estimate.raw_tile_bytes(config, label), rel=0.02)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1234567, "1.23 MB"), (99_960_000_000, "100 GB"),
     (312e9, "312 GB"), (5.9e12, "5.9 TB"), (999_600, "1 MB"), (2e18, "2000 PB")],
)  # fmt: skip
def test_sizes_for_people(count, text):
    assert estimate.format_bytes(count) == text


def test_the_watcher_pays_no_numerical_import():
    code = (
        "import sys, opticstream_smk.estimate\n"
        "sys.exit(','.join({'numpy', 'scipy', 'nibabel'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_volumes_count_with_their_pyramid(make_config):
    config = full_size(make_config, volume__enabled=True)
    without = full_size(make_config)
    one = estimate.volume_bytes(config, "normal")
    # 500 planes of 4550 x 6230 px, float32, and a seventh for the coarser levels.
    assert one == pytest.approx(500 * 4550 * 6230 * 4 * 8 / 7, rel=1e-3)
    every = 3 * sum(estimate.volume_bytes(config, label) for label in ("normal", "tilted"))
    assert estimate.run_product_bytes(config, 2) - estimate.run_product_bytes(without, 2) \
        == pytest.approx(2 * every, rel=1e-4)  # fmt: skip
    no_tiles = full_size(make_config, volume__enabled=True, processing__save_volume_outputs=False)
    assert no_tiles.volume_modalities == ()
    files = estimate.volume_products(config, "normal").files
    assert 35 < files < 200  # 5 x 7 shards, those of the pyramid, records
