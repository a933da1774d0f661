from pathlib import Path

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.config.path_map import check_keys, map_folder
from opticstream_smk.errors import ConfigError
from tests.conftest import small_values

MAP = {
    "D:/": Path("/mnt/d"),
    "d:\\data\\Fast": Path("/mnt/fast"),
    "\\\\Zircon\\acq": Path("/mnt/acq"),
    "/data/scan": Path("/mnt/scan"),
}


@pytest.mark.parametrize(
    ("folder", "here"),
    [
        ("D:/x", "/mnt/d/x"),
        ("d:\\x", "/mnt/d/x"),
        ("D:\\Block I55\\raw/", "/mnt/d/Block I55/raw"),
        ("D:", "/mnt/d"),
        ("d:/", "/mnt/d"),
        ("D:/data/slow", "/mnt/d/data/slow"),
        # The longest key counts, in whole components; only what follows keeps its case.
        ("D:/Data/FAST/Raw", "/mnt/fast/Raw"),
        ("D:/data/faster", "/mnt/d/data/faster"),
        ("D:/data/./slow/../fast/x", "/mnt/fast/x"),
        ("\\\\zircon\\ACQ\\Run1", "/mnt/acq/Run1"),
        ("//zircon/acq/Run1", "/mnt/acq/Run1"),
        ("/data/scan/a", "/mnt/scan/a"),
        # These are folders of this host.
        ("/data/scanner", "/data/scanner"),
        ("/Data/scan", "/Data/scan"),
        ("/mnt/d/x", "/mnt/d/x"),
        ("//other/share", "//other/share"),
        ("raw", "raw"),
        ("D:relative", "D:relative"),
        ("d", "d"),
    ],
)
def test_folders_of_the_acquisition_host(folder, here):
    assert map_folder(folder, MAP) == Path(here)


@pytest.mark.parametrize("folder", ["E:/x", "e:\\", "E:", "\\\\other\\share\\x", "\\\\zircon"])
def test_a_folder_of_windows_that_is_not_mapped(folder):
    with pytest.raises(ConfigError, match=r"Add it, or a folder.*watch\.path_map.*it has D:/, "):
        map_folder(folder, MAP)
    with pytest.raises(ConfigError, match=r"watch\.path_map with the place where it is mounted$"):
        map_folder(folder, {})


@pytest.mark.parametrize("key", ["", "data", "D", "D:x", "./x"])
def test_keys_that_cover_nothing(key):
    check_keys(MAP)
    with pytest.raises(ConfigError, match=r"watch\.path_map: .*is no folder"):
        check_keys({key: Path("/mnt")})


def write(folder, **overrides):
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(small_values(**overrides)))
    return path


def test_source_folders_are_mapped_when_a_configuration_is_read(tmp_path):
    config = load_config(
        write(
            tmp_path,
            acquisition__sources=[
                {"dir": "D:\\I55\\raw", "slice_offset": 2},
                {"dir": "//host/share/a"},
                {"dir": "raw"},
            ],
            watch__path_map={"d:/": "mounted", "\\\\HOST\\share": "/mnt/share"},
            run__token_dir="tokens",
        )
    )
    assert [source.dir for source in config.acquisition.sources] == [
        tmp_path / "mounted/I55/raw",
        Path("/mnt/share/a"),
        tmp_path / "raw",
    ]
    assert config.acquisition.sources[0].slice_offset == 2
    assert config.watch.path_map["d:/"] == tmp_path / "mounted"
    assert config.run.token_dir == tmp_path / "tokens"


def test_a_drive_that_is_not_mapped_is_named_with_its_file(tmp_path):
    path = write(tmp_path, acquisition__sources=[{"dir": "raw"}, {"dir": "E:\\x"}])
    with pytest.raises(ConfigError, match=r"acquisition\.sources\[1\]\.dir: E:\\x is a") as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "watch.path_map" in str(caught.value)


def test_a_key_that_covers_nothing_is_named_with_its_file(tmp_path):
    path = write(tmp_path, watch__path_map={"data": "/mnt"})
    with pytest.raises(ConfigError, match="'data' is no folder") as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("given", "stored"), [(-5, "-5"), ("high", "high"), ("-3", "-3")])
def test_the_priority_of_the_acquisition_software(tmp_path, given, stored):
    config = load_config(write(tmp_path, watch__protect_priority=given))
    assert config.watch.protect_priority == stored


@pytest.mark.parametrize("given", [20, "fast", "-21"])
def test_no_priority(tmp_path, given):
    with pytest.raises(ConfigError, match=r"watch\.protect_priority: priority .* above_normal"):
        load_config(write(tmp_path, watch__protect_priority=given))
