from pathlib import Path

import pytest

from opticstream_smk.errors import ConfigError


def test_without_a_folder_there_is_no_archive(make_config):
    config = make_config()
    assert config.archive.dir is None
    assert not config.archive.complex
    assert "archive" in config.run.goals


def test_folders_are_relative_to_the_configuration(make_config, tmp_path):
    config = make_config(archive__dir="../kept", project__dandiset_dir="dandi/000052")
    assert config.archive.dir == tmp_path.parent / "kept"
    assert config.project.dandiset_dir == tmp_path / "dandi/000052"


def test_it_does_not_lie_among_raw_files(make_config, tmp_path):
    for folder in ("raw", "raw/archive"):
        with pytest.raises(ConfigError, match=r"archive\.dir .* lies in the source folder .*raw;"):
            make_config(archive__dir=folder)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "raw")
    with pytest.raises(ConfigError, match="lies in the source folder"):
        make_config(archive__dir="elsewhere/archive")
    assert make_config(archive__dir="rawer").archive.dir == tmp_path / "rawer"


def test_a_template_that_cannot_work_is_refused(make_config):
    with pytest.raises(ConfigError, match=r"archive\.name: .* lacks \{tile_id\}"):
        make_config(archive__name="s{slice_id}_{acq}.nii.gz")


@pytest.mark.parametrize("name", ["a\\b", "x" * 220, "tab\there"])
def test_a_project_name_that_gives_no_file_name(make_config, name):
    assert make_config(project__name=name).project.name == name
    with pytest.raises(ConfigError, match=r"Correct project\.name|Shorten project\.name"):
        make_config(project__name=name, archive__dir="archive")


def test_a_subject_is_needed_where_the_name_has_no_letters(make_config):
    with pytest.raises(ConfigError, match=r"set project\.subject"):
        make_config(project__name="---", archive__dir="archive")
    config = make_config(project__name="---", project__subject="I55", archive__dir="archive")
    assert config.project.subject_label == "I55"
    assert make_config().project.subject_label == "testblock"


@pytest.mark.parametrize(
    ("key", "here"),
    [
        ("archive_path", "archive.dir"),
        ("archive_tile_name_format", "archive.name"),
        ("dandiset_path", "project.dandiset_dir"),
    ],
)
def test_names_of_the_system_that_is_replaced(make_config, key, here):
    with pytest.raises(ConfigError, match=f"is called {here} here"):
        make_config(**{f"project__{key}": str(Path("x"))})
