"""Each kind of input, from the simulator through scan and snakemake to the truth."""

import json

import nibabel
import numpy as np
import pytest

from tests.e2e.conftest import Project

MAPS = ["aip", "mip", "ret", "ori"]
KINDS = {
    "12 bits, every map": {
        "acquisition__tile_saving_type": "spectral_12bit",
        "processing__modalities": [*MAPS, "biref", "mus", "mus_confidence"],
        "mosaic__modalities": [*MAPS, "biref", "surf", "mus", "mus_confidence"],
    },
    "complex": {"acquisition__tile_saving_type": "complex", "processing__complex": "keep"},
    "complex, flipped, discarded": {
        "acquisition__tile_saving_type": "complex",
        "acquisition__complex_z_order": "flipped",
        "processing__complex": "discard",
    },
    "complex with spectra": {"acquisition__tile_saving_type": "complex_with_spectral"},
    "tilted tiles of another size": {
        "acquisition__tile_size_x_tilted": 40,
        "acquisition__grid_size_x_tilted": 4,
        "acquisition__grid_size_y_tilted": 2,
        "processing__complex": "discard",
    },
    "three illuminations": {
        "acquisition__mosaics_per_slice": 3,
        "acquisition__filename_preset": "macaque",
        "registration__gamma_deg": 15.0,
        "processing__complex": "discard",
        "processing__save_volume_outputs": False,
    },
    "maps": {
        "acquisition__tile_saving_type": "processed_with_spectral",
        "processing__modalities": MAPS,
        "mosaic__modalities": [*MAPS, "surf"],
        "registration__enabled": False,
        "watch__min_file_bytes": 1000,
    },
    "maps alone": {"acquisition__tile_saving_type": "processed"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_reaches_the_truth(kind, tmp_path):
    raw = tmp_path / "raw"
    project = Project(tmp_path, raw, KINDS[kind])
    project.trigger("simulate psoct", "--out", raw, "--workers", 2)
    scan = project.trigger("scan", "--assume-stable")
    assert " 0 waiting, 0 problems" in scan.stdout
    project.snakemake()
    assert project.planned() == set()
    doctor = project.trigger("doctor")
    assert doctor.stdout.startswith("0 findings"), doctor.stdout
    done = project.trigger("simulate compare", "--format", "json", check=False)
    rows = json.loads(done.stdout)
    missed = [row for row in rows if not row["passed"]]
    assert not missed
    names = {row["name"] for row in rows}
    assert {"surface", "orientation", "AIP"} <= names
    if KINDS[kind].get("registration__enabled", True):
        assert "in-plane axis" in names
        assert (project.dir / "registered/slice-01_3daxis.nii").exists()
    else:
        assert not (project.dir / "state/slice-01.registered").exists()
    for check in CHECKS.get(kind, ()):
        check(project)


def _complex_is_linked(project):
    tile = project.dir / "mosaic-01/complex/mosaic_001_image_0001_complex.nii"
    assert tile.is_symlink()
    assert tile.resolve() == project.raw / "mosaic_001_image_0001_processed.nii"


def _nothing_complex(project):
    assert not (project.dir / "mosaic-01/complex").exists()


def _three_mosaics_and_no_volumes(project):
    for mosaic in (1, 2, 3):
        assert (project.dir / f"mosaic-{mosaic:02d}/state/mosaic-{mosaic:02d}.stitched").exists()
        processed = project.dir / f"mosaic-{mosaic:02d}/processed"
        assert list(processed.glob("*_dBI.nii")) == []
        assert not list((project.dir / f"mosaic-{mosaic:02d}/state").glob("*.qc"))
    assert (project.dir / "tilemap-tiltNeg.j2").exists()


def _maps_are_linked(project):
    tile = project.dir / "mosaic-01/processed/mosaic_001_image_0001_aip.nii"
    assert tile.is_symlink()
    stitched = nibabel.load(project.dir / "mosaic-01/stitched/mosaic_001_ori.nii")
    assert np.isfinite(stitched.get_fdata()).all()


CHECKS = {
    "complex": (_complex_is_linked,),
    "complex, flipped, discarded": (_nothing_complex,),
    "three illuminations": (_three_mosaics_and_no_volumes,),
    "maps": (_maps_are_linked,),
    "maps alone": (_maps_are_linked,),
}
