import json


def test_show(finished_session):
    text = finished_session.trigger("state show", "--mosaic", 1).stdout
    assert text.startswith("mosaic 001: done  coordinates ")
    assert "mosaic 001 batch 003: done" in text
    report = json.loads(
        finished_session.trigger("state show", "--slice", 1, "--format", "json").stdout
    )
    assert report["status"] == "done"
    assert len(report["children"]) == 2
    missing = finished_session.trigger("state show", "--mosaic", 9, check=False)
    assert missing.returncode == 3


def test_mark_sets_only_what_is_true(finished):
    finished.trigger("state mark", "--mosaic", 1, "enface_stitched", "false")
    flag = finished.dir / "mosaic-01/state/mosaic-01.stitched"
    assert not flag.exists()
    assert not (finished.dir / "state/slice-01.registered").exists()
    finished.trigger("state mark", "--mosaic", 1, "stitched", "yes")
    assert json.loads(flag.read_text())["extra"] == {"marked_by_hand": True}
    assert finished.trigger("doctor").returncode == 0
    product = finished.dir / "mosaic-01/stitched/mosaic_001_mask.jpg"
    finished.trigger("state mark", "--mosaic", 1, "stitched", "0")
    product.unlink()
    refused = finished.trigger("state mark", "--mosaic", 1, "stitched", "1", check=False)
    assert refused.returncode == 3
    assert str(product) in refused.stderr
    assert not flag.exists()


def test_mark_a_status(finished):
    finished.trigger("state mark", "--mosaic", 1, "--batch", 2, "failed")
    status = finished.trigger("status", check=False)
    assert "marked by hand" in status.stdout
    finished.trigger("state mark", "--mosaic", 1, "--batch", 2, "completed")
    assert (finished.dir / "mosaic-01/state/batch-002.processed").exists()
    assert not (finished.dir / "mosaic-01/state/batch-002.failed").exists()


def test_mark_says_what_is_wrong(finished_session):
    for words, message in (
        (("--mosaic", 1, "registered", "true"), "expected one of closed, coordinates, stitched"),
        (("--mosaic", 1, "stitched"), "needs a value"),
        (("--mosaic", 1, "stitched", "maybe"), "'maybe'"),
        (("--mosaic", 1, "completed", "true"), "takes no value"),
        (("--batch", 1, "processed", "true"), "--batch needs --mosaic"),
        (("stitched", "true"), "name what to mark"),
    ):
        done = finished_session.trigger("state mark", *words, check=False)
        assert done.returncode == 2
        assert message in done.stderr


def test_reset(finished):
    finished.trigger("state reset", "--mosaic", 1, "--batch", 2)
    assert not (finished.dir / "mosaic-01/state/batch-002.ready").exists()
    assert not (finished.dir / "mosaic-01/state/mosaic-01.stitched").exists()
    assert (finished.dir / "mosaic-01/state/batch-001.processed").exists()
    assert finished.trigger("state reset", "--mosaic", 1, "--batch", 2, check=False).returncode == 3
    assert finished.trigger("state reset", check=False).returncode == 2
    finished.trigger("state reset", "--all")
    assert list(finished.dir.glob("**/state/*.ready")) == []
    # Receipts are still there: taking the same files again computes nothing.
    finished.trigger("scan", "--assume-stable")
    finished.snakemake("--", "mosaic-01/state/batch-001.processed")
    log = (finished.dir / "logs/process_tiles/mosaic-01_batch-001.log").read_text()
    assert log.count("kept") == 3
