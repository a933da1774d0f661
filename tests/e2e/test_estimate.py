"""Estimated sizes against a project that was really made."""

import pytest

from opticstream_smk import estimate
from opticstream_smk.config import load_config


def size(*paths):
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())


def test_a_finished_project_has_the_estimated_size(finished_session):
    config, folder = load_config(finished_session.config), finished_session.dir
    within = {"rel": 0.15}
    for mosaic, label in ((1, "normal"), (2, "tilted")):
        made, report = folder / f"mosaic-0{mosaic}", folder / "report"
        batches = size(
            *(made / "complex").rglob("*"),
            *(made / "processed").rglob("*"),
            *report.glob(f"mosaic-0{mosaic}_batch-*"),
        )
        assert 3 * estimate.batch_product_bytes(config, label) == pytest.approx(batches, **within)
        stitched = size(
            *(made / "stitched").iterdir(),
            *report.glob(f"mosaic-0{mosaic}*s.jpg"),
            report / f"mosaic-0{mosaic}.jpg",
        )
        assert estimate.mosaic_product_bytes(config, label) == pytest.approx(stitched, **within)
    registered = size(
        *(folder / "registered").glob("slice-01*"), folder / "report" / "slice-01.jpg"
    )
    assert estimate.slice_product_bytes(config) == pytest.approx(registered, **within)
    everything = [path for path in folder.rglob("*") if path.is_file()]
    whole = estimate.run_products(config, 2)
    assert whole.bytes == pytest.approx(size(*everything), **within)
    assert whole.files == pytest.approx(len(everything), rel=0.3)


def test_what_is_linked_takes_no_space(finished_session):
    config = load_config(finished_session.config)
    assert estimate.raw_slice_bytes(config) == pytest.approx(
        size(*finished_session.raw.glob("mosaic_001_*"), *finished_session.raw.glob("mosaic_002_*"))
    )
