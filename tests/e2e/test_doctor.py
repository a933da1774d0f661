"""Everything that does not fit is found, and what can be mended is."""

import json
import os

from opticstream_smk.state.flags import read_flag


def findings(project, *options):
    done = project.trigger("doctor", "--format", "json", *options, check=False)
    return done.returncode, json.loads(done.stdout)["findings"]


def test_other_paddings(finished):
    (finished.dir / "mosaic-01/state/batch-002.processed").rename(
        finished.dir / "mosaic-01/state/batch-2.processed"
    )
    (finished.dir / "mosaic-02").rename(finished.dir / "mosaic-2")
    code, found = findings(finished)
    assert code == 3
    assert sum("another padding" in f["problem"] for f in found) == 2
    finished.trigger("doctor", "--fix", check=False)
    finished.trigger("doctor", "--fix", check=False)
    assert (finished.dir / "mosaic-01/state/batch-002.processed").exists()
    assert (finished.dir / "mosaic-02/state/mosaic-02.stitched").exists()


def test_names_that_are_no_flags(finished):
    (finished.dir / "mosaic-01/state/batch-0.started").write_text("{}")
    code, found = findings(finished)
    assert code == 3
    assert [f["problem"] for f in found] == ["is no flag of this version"]


def test_a_damaged_flag_is_withdrawn(finished):
    flag = finished.dir / "mosaic-01/state/mosaic-01.stitched"
    flag.unlink()
    flag.write_text("{")
    code, found = findings(finished, "--fix")
    assert code == 0
    assert "withdrawn" in {f["verdict"] for f in found}
    assert not flag.exists()
    assert not (finished.dir / "state/slice-01.registered").exists()


def test_leftovers_of_dead_processes(finished):
    lock = finished.dir / "mosaic-01/state/.locks/mosaic-01.stitched.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1}))

    os.utime(lock, (1, 1))
    partial = finished.dir / "mosaic-01/stitched/.tmp-mosaic_001_aip.nii"
    partial.write_bytes(b"half")
    code, found = findings(finished)
    assert code == 0  # nothing is wrong with the products
    assert {f["verdict"] for f in found} == {"note"}
    finished.trigger("doctor", "--fix")
    assert not partial.exists()
    assert lock.read_text() == ""
    assert findings(finished) == (0, [])


def test_orphans_are_listed_and_left(finished):
    orphan = finished.dir / "mosaic-01/processed/mosaic_001_image_0099_aip.nii"
    orphan.write_bytes(b"x")
    code, found = findings(finished, "--fix")
    assert code == 0
    assert "1 files belong to no flag" in found[0]["problem"]
    assert orphan.exists()


def test_dangling_links(finished):
    link = finished.dir / "mosaic-01/complex/mosaic_001_image_0099_complex.nii"
    link.symlink_to("/nowhere/tile.nii")
    code, found = findings(finished, "--fix")
    assert code == 3
    assert "/nowhere/tile.nii" in found[0]["problem"]
    assert link.is_symlink()


def test_a_truncated_product_is_made_again(finished):
    product = finished.dir / "mosaic-01/processed/mosaic_001_image_0005_aip.nii"
    content = product.read_bytes()
    product.unlink()
    product.write_bytes(content[:-10])
    _, found = findings(finished, "--fix")
    assert "were written" in found[0]["problem"]
    flag = finished.dir / "mosaic-01/state/batch-002.processed"
    assert not flag.exists()
    finished.snakemake("--", "mosaic-01/state/batch-002.processed")
    assert product.read_bytes() == content
    assert read_flag(flag).tiles.done == (4, 5, 6)
