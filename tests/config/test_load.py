from pathlib import Path

import pytest
import yaml

from opticstream_smk.config import Config, find_config, generate, load_config
from opticstream_smk.errors import ConfigError
from tests.conftest import REPO, small_values


def write(folder: Path, values) -> Path:
    path = folder / "project.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def test_generated_files_are_current():
    assert (REPO / "config/config.default.yaml").read_text() == generate.default_yaml()
    assert (REPO / "config/schema.json").read_text() == generate.schema_json()


def test_the_default_file_is_a_valid_configuration():
    config = load_config(REPO / "config/config.default.yaml")
    assert config.processing.depth_px == 80
    assert config.acquisition.raw_tile_bytes("normal") == 352 + 350 * 350 * 2 * 2048 * 2


def test_every_field_says_what_it_does():
    for section in Config.model_fields.values():
        assert section.description
        for name, field in section.annotation.model_fields.items():
            assert field.description, name


def test_relative_paths_are_relative_to_the_file(tmp_path):
    config = load_config(write(tmp_path, small_values()))
    assert config.project.dir == tmp_path / "project"
    assert config.acquisition.sources[0].dir == tmp_path / "raw"
    assert config.acquisition.calibration_file == tmp_path / "raw/wave-pixel.mat"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mosaic__maks_threshold_normal": 3}, "did you mean mask_threshold_normal"),
        ({"acquisition__grid_size_y": 0}, "acquisition.grid_size_y"),
        ({"acquisition__tile_overlap_percent": 100}, "less than 100"),
        ({"acquisition__tile_overlap_percent": 99}, "less than one pixel"),
        ({"processing__complex": "maybe"}, "'keep' or 'discard'; found 'maybe'"),
        ({"processing__modalities": ["aip", "ori"]}, "asks for mip, ret, biref"),
        (
            {"acquisition__mosaics_per_slice": 3, "acquisition__tile_saving_type": "complex"},
            "spectral or spectral_12bit",
        ),
        ({"acquisition__filename_pattern": "tile_{slice}.nii"}, "image"),
        ({"acquisition__filename_preset": "ours"}, "'legacy', 'cropped_focus', 'macaque'"),
        ({"registration__moving": "tiltPos"}, "a slice has the mosaics normal, tilted"),
        ({"mosaic__modalities": ["aip"]}, "must contain ori"),
        ({"acquisition__calibration_file": None}, "calibration_file is not set"),
        (
            {"acquisition__tile_saving_type": "processed", "archive__dir": "a"},
            "no raw files to archive; set archive.dir: null",
        ),
        (
            {
                "acquisition__tile_saving_type": "processed",
                "processing__modalities": ["aip", "mus"],
                "mosaic__modalities": ["aip"],
                "registration__enabled": False,
            },
            "does not save mus",
        ),
        ({"acquisition__sources": []}, "acquisition.sources"),
        ({"acquisition__sources": [{"dir": "r", "mosaic_ranges": "5:1"}]}, "range 5:1"),
        ({"acquisition__sources": [{"dir": "r", "ofset": 1}]}, "unknown key"),
        ({"processing__phase_offset_deg": float("nan")}, "phase_offset_deg"),
        ({"acquisition__disp_comp_file": "x"}, "is called acquisition.dispersion_file here"),
        ({"watch__stability_seconds": 3}, "is called watch.stability_s here"),
        ({"aquisition__x": 1}, "did you mean acquisition"),
    ],
)
def test_wrong_values_are_named(tmp_path, overrides, message):
    path = write(tmp_path, small_values(**overrides))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(write(tmp_path, "a: [1"))
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_config(write(tmp_path, "just words"))
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)


def test_names_of_the_design_document_are_accepted(tmp_path):
    values = small_values()
    values["project_name"] = values["project"].pop("name")
    values["project_base_path"] = values["project"].pop("dir")
    values["grid_size_x_normal"] = values["acquisition"].pop("grid_size_x_normal")
    values["acquisition"]["tile_overlap"] = values["acquisition"].pop("tile_overlap_percent")
    values["registration"] = {"gamma": -12}
    values["depth"] = 40
    config = load_config(write(tmp_path, values))
    assert config.project.name == "test block"
    assert config.acquisition.tile_overlap_percent == 25
    assert config.acquisition.grid_size_x_normal == 2
    assert config.registration.gamma_deg == -12
    assert config.processing.depth_px == 40


@pytest.mark.parametrize("key", ["slack_token", "DANDI_API_KEY", "password", "webhook_url"])
def test_secrets_are_refused(tmp_path, key):
    values = small_values()
    values["project"][key] = "abc"
    with pytest.raises(ConfigError, match=f"project.{key} looks like a secret") as caught:
        load_config(write(tmp_path, values))
    assert "abc" not in str(caught.value)


def test_an_alias_beside_its_name_is_refused(tmp_path):
    values = small_values(processing__depth_px=80)
    values["depth"] = 70
    with pytest.raises(ConfigError, match="keep one"):
        load_config(write(tmp_path, values))


def test_three_ways_to_name_a_configuration(tmp_path, monkeypatch):
    monkeypatch.delenv("OPTIC_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"--configfile.*OPTIC_CONFIG.*config/project.yaml"):
        find_config(root=tmp_path)
    (tmp_path / "config").mkdir()
    default = write(tmp_path / "config", small_values())
    assert find_config(root=tmp_path) == default
    other = write(tmp_path, small_values())
    monkeypatch.setenv("OPTIC_CONFIG", str(other))
    assert find_config(root=tmp_path) == other
    assert find_config(default, root=tmp_path) == default
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        find_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"template_slice": 1, "template_slices": [1, 2]}, "both set; expected one"),
        ({"template_slices": [2, 2]}, "names a slice twice"),
        ({"template_slices": [0]}, "greater than or equal to 1"),
        ({"coordinates": "copy"}, "'reuse', 'refine' or 'every_slice'"),
        ({"drift_limit_px": 0}, "greater than 0"),
        ({"quality": {"min_anchored_share": [1.5, 0.5]}}, "less than or equal to 1"),
    ],
)
def test_coordinates_that_cannot_be_solved_so(tmp_path, values, message):
    content = {**small_values(), "mosaic": values}
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, content))
