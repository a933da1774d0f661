import os
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.folders import check_project, check_sources
from opticstream_smk.preflight.raw_files import check_names, look
from opticstream_smk.preflight.room import check_room
from tests.conftest import small_values


def test_a_source_folder_is_only_looked_at(make_config, write_raw):
    config = make_config()
    folder = config.acquisition.sources[0].dir
    write_raw(config, 1, [1, 2])
    before = {path: path.stat() for path in folder.iterdir()}
    (check,) = check_sources(config)
    assert check.verdict == "ok"
    assert "2 items" in check.found
    assert {path: path.stat() for path in folder.iterdir()} == before


def test_a_missing_source_folder(make_config):
    config = make_config(acquisition__sources=[{"dir": "raw"}, {"dir": "unmounted"}])
    good, bad = check_sources(config)
    assert good.verdict == "ok"
    assert (bad.verdict, bad.exit_code) == ("FAILED", 2)
    assert "unmounted: does not exist" in str(bad)
    assert "acquisition.sources" in bad.remedy


def test_a_source_that_is_a_file(make_config, tmp_path):
    (tmp_path / "file").write_text("x")
    (check,) = check_sources(make_config(acquisition__sources=[{"dir": "file"}]))
    assert (check.exit_code, check.found) == (2, "is no folder")


@pytest.mark.parametrize(
    ("project", "source", "found"),
    [("raw/project", "raw", "holds the project folder"),
     ("raw", "raw", "is the project folder"),
     ("project", "project/raw", "lies in the project folder")],
)  # fmt: skip
def test_raw_and_products_are_kept_apart(make_config, tmp_path, project, source, found):
    (tmp_path / source).mkdir(parents=True, exist_ok=True)
    config = make_config(project__dir=project, acquisition__sources=[{"dir": source}])
    (check,) = check_sources(config)
    assert check.exit_code == 2
    assert found in check.found


def test_a_link_into_the_project_is_in_the_project(make_config, tmp_path):
    (tmp_path / "project" / "raw").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "project" / "raw")
    (check,) = check_sources(make_config(acquisition__sources=[{"dir": "link"}]))
    assert "lies in the project folder" in check.found


@pytest.fixture(params=["raw", "disk/raw"])
def unreadable(request):
    """Configuration whose source, or the folder above it, is closed to a user that is not root."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        path = root / "project.yaml"
        path.write_text(yaml.safe_dump(small_values(acquisition__sources=[{"dir": request.param}])))
        (root / request.param).mkdir(parents=True)
        closed = root / Path(request.param).parts[0]
        closed.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield load_config(path)
        if is_root:
            os.seteuid(0)
        closed.chmod(0o700)


def test_an_unreadable_source(unreadable):
    (check,) = check_sources(unreadable)
    assert check.exit_code == 4
    assert "is not readable (Permission denied)" in check.found
    assert "permissions" in check.remedy


def test_the_other_checks_go_on_without_it(unreadable):
    # Space and names are still looked at, whatever cannot be.
    raw = look(unreadable)
    assert raw.files == ()
    assert check_names(unreadable, raw)[0].verdict == "note"
    (space,) = check_room(unreadable, raw, slices=1, assumption="one")
    assert space.numbers["free_bytes"] > 0


def test_a_project_folder_that_cannot_be_written(unreadable):
    if os.access(unreadable.project.dir.parent, os.W_OK, effective_ids=True):
        pytest.skip("this user owns the folder")
    check = check_project(unreadable)
    assert check.exit_code == 4
    assert "no permission; check the owner" in str(check)


def test_a_clock_that_is_ahead(make_config, write_raw):
    config = make_config()
    (path,) = write_raw(config, 1, [1])
    os.utime(path, (time.time() + 3600, time.time() + 3600))
    _, check = check_sources(config)
    assert check.verdict == "note"
    assert check.numbers["clock_ahead_s"] == pytest.approx(3600, abs=5)


@pytest.mark.parametrize(("observer", "verdict"), [("auto", "note"), ("native", "warning")])
def test_a_network_folder_is_looked_at_by_the_clock(make_config, monkeypatch, observer, verdict):
    monkeypatch.setattr(disk, "filesystem", lambda _folder: "nfs4")
    config = make_config(watch__observer=observer, watch__poll_interval_s=7)
    _, check = check_sources(config)
    assert check.verdict == verdict
    assert "every 7 s" in str(check)
    assert check_project(config).verdict == "note"


def test_a_project_folder_need_not_exist(make_config):
    config = make_config()
    check = check_project(config)
    assert check.verdict == "ok"
    assert "can be made in" in check.found
    assert not config.project.dir.exists()


def test_links_are_tried_where_tiles_are_linked(make_config, monkeypatch):
    tried = []
    monkeypatch.setattr(disk, "probe", lambda _folder, links: tried.append(links))
    check_project(make_config())
    check_project(make_config(acquisition__tile_saving_type="complex"))
    assert tried == [False, True]
