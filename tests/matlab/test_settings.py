"""What the configuration accepts of the MATLAB engines, and what psoct-toolbox cannot do."""

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.config.matlab import notes
from opticstream_smk.errors import ConfigError
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.resources import stage_resources
from opticstream_smk.workflow import WorkflowProject
from tests.conftest import small_values

USUAL = {
    "acquisition__samples_per_aline": 2048,
    "acquisition__dispersion_file": "raw/dispersion.bin",
    "processing__engine": "matlab-batch",
    "processing__complex": "discard",
    "processing__matlab": {"toolbox_dir": "toolbox"},
}
PHASE = {"dphase_file": "d.mat", "linphase_file": "l.mat"}


@pytest.fixture
def load(tmp_path):
    def load(*, top=None, **overrides):
        path = tmp_path / "project.yaml"
        path.write_text(yaml.safe_dump({**small_values(**{**USUAL, **overrides}), **(top or {})}))
        return load_config(path)

    return load


@pytest.mark.parametrize("engine", ["matlab-batch", "matlab-engine"])
def test_the_usual_settings_are_accepted(load, tmp_path, engine):
    config = load(processing__engine=engine)
    matlab = config.processing.matlab
    assert matlab.toolbox_dir == tmp_path / "toolbox"  # relative to the file
    assert matlab.arguments("f(1)") == ["matlab", "-batch", "f(1)"]


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ({"processing__matlab": {}}, "processing.matlab.toolbox_dir"),
        ({"processing__modalities": ["aip", "mip", "ret", "ori", "biref", "mus"]},
         "processing.modalities mus"),
        ({"processing__biref_method": "unwrap_exp"}, "processing.biref_method unwrap_exp"),
        ({"processing__surface_args": [5, 7]}, "processing.surface_args"),
        ({"processing__surface_args": [7]}, "processing.surface_args"),
        ({"processing__surface": "gradientThreshold", "processing__surface_args": [20, 55, 5, 6]},
         "processing.surface_args"),
        ({"processing__surface": "gradientThreshold", "processing__surface_args": [20, 55.5]},
         "processing.surface_args"),
        ({"acquisition__samples_per_aline": 1152}, "acquisition.samples_per_aline 1152"),
        ({"acquisition__phase_calibration": PHASE}, "acquisition.phase_calibration"),
        ({"acquisition__flip_channel2": False}, "acquisition.flip_channel2 false"),
        ({"acquisition__mosaics_per_slice": 3, "acquisition__filename_preset": "macaque"},
         "acquisition.mosaics_per_slice 3"),
        ({"acquisition__dispersion_file": None}, "acquisition.dispersion_file null"),
        ({"acquisition__dispersion_file": "raw/d.txt"}, "d.txt"),
        ({"acquisition__tile_size_x_normal": 700, "acquisition__tile_size_y": 700},
         "acquisition.tile_size_"),
    ],
)  # fmt: skip
def test_what_the_toolbox_cannot_do_is_refused_with_both_keys(load, overrides, keys):
    with pytest.raises(ConfigError) as caught:
        load(**overrides)
    assert keys in str(caught.value)
    assert "processing.engine matlab-batch" in str(caught.value)
    assert "1 problem(s)" in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        {"acquisition__samples_per_aline": 1152},
        {"acquisition__phase_calibration": PHASE},
        {"acquisition__flip_channel2": False},
        {"acquisition__mosaics_per_slice": 3, "acquisition__filename_preset": "macaque"},
        {"acquisition__dispersion_file": None},
    ],
)
def test_with_complex_tiles_on_disk_the_spectra_are_not_the_toolbox_matter(load, overrides):
    assert load(processing__complex="keep", **overrides).processing.engine == "matlab-batch"


def test_settings_of_surfaces_that_fit(load):
    for surface, args in (
        ("gradient", [5]), ("gradient", [9, 9]), ("gradientThreshold", [10, 60]), ("250", []),
    ):  # fmt: skip
        load(processing__surface=surface, processing__surface_args=args)


def test_linked_maps_need_no_toolbox(load):
    maps = ["aip", "mip", "ret", "ori"]
    config = load(
        acquisition__tile_saving_type="processed_with_spectral",
        processing__matlab={},
        processing__modalities=maps,
        mosaic__modalities=maps,
        registration__enabled=False,
    )
    assert notes(config.processing, config.acquisition) == []
    assert stage_resources(config, "process_tiles").memory_mb < 1000


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("matlab -batch", "which has {command}"),
        ("{command}", "which has {command}"),
        ("matlab {command} {command}", "once"),
        ([], "a program and its arguments"),
        (["matlab", "-batch"], "which has {command}"),
        ("matlab -batch '{command}", "No closing quotation"),
    ],
)
def test_a_command_without_its_place_is_refused(load, command, message):
    with pytest.raises(ConfigError, match=r"processing\.matlab\.command") as caught:
        load(processing__matlab={"toolbox_dir": "t", "command": command})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "command",
    ["'/opt/my matlab/bin/matlab' -nosplash -batch {command}",
     ["/opt/my matlab/bin/matlab", "-nosplash", "-batch", "{command}"]],
)  # fmt: skip
def test_no_shell_reads_a_command(load, command):
    config = load(processing__matlab={"toolbox_dir": "t", "command": command})
    code = "disp('$(touch x); \"a\" `b` & c')"
    assert config.processing.matlab.arguments(code) == [
        "/opt/my matlab/bin/matlab", "-nosplash", "-batch", code
    ]  # fmt: skip


def test_names_of_opticstream(load):
    three = {"matlab_num_workers": 3}
    config = load(top=three, processing__matlab_pool_type="thread")
    assert config.processing.matlab.num_workers == 3
    assert config.processing.matlab.pool_type == "thread"
    assert config.processing.matlab.toolbox_dir is not None
    with pytest.raises(ConfigError, match=r"matlab_num_workers \(3\) and processing.matlab.num_wo"):
        load(top=three, processing__matlab={"toolbox_dir": "t", "num_workers": 2})
    with pytest.raises(ConfigError, match=r"section processing.matlab must be a mapping"):
        load(top=three, processing__matlab="t")
    with pytest.raises(ConfigError, match=r"is called processing\.engine"):
        load(processing__matlab_processing_enabled=True)
    with pytest.raises(ConfigError, match="did you mean tile_timeout_s"):
        load(processing__matlab={"toolbox_dir": "t", "tile_timeout": 3})


def test_quirks_that_cannot_be_had_otherwise_are_a_note(load):
    config = load()
    (note,) = notes(config.processing, config.acquisition)
    assert note.startswith("processing.toolbox_quirks false with processing.engine matlab-batch")
    config = load(processing__toolbox_quirks=True)
    assert notes(config.processing, config.acquisition) == []
    config = load(processing__biref_method="unwrap_new", processing__toolbox_quirks=True)
    assert "unwrap_new" in notes(config.processing, config.acquisition)[0]


def test_workers_are_cores_and_memory(load):
    sizes = {
        "acquisition__tile_size_x_normal": 350,
        "acquisition__tile_size_x_tilted": 200,
        "acquisition__tile_size_y": 350,
    }
    one_at_a_time = load(**sizes)
    one = stage_resources(one_at_a_time, "process_tiles")
    assert one.cores == 1
    assert 8000 < one.memory_mb < 12000
    four = load(**sizes, processing__matlab={"toolbox_dir": "t", "num_workers": 4})
    assert stage_resources(four, "process_tiles", threads=2).cores == 4
    assert stage_resources(four, "process_tiles").memory_mb > 3.5 * (one.memory_mb - 2000)
    project = WorkflowProject(four, four.project.dir, None)
    assert project.tile_threads("process_tiles") == 4
    assert WorkflowProject(one_at_a_time, four.project.dir, None).tile_threads("process_tiles") == 1
    threads = load(**sizes, run__tile_threads=4)
    assert stage_resources(threads, "process_tiles") == stage_resources(four, "process_tiles")
    packed = load(**sizes, acquisition__tile_saving_type="spectral_12bit")
    assert stage_resources(packed, "process_tiles").memory_mb == pytest.approx(one.memory_mb, abs=2)
    # Complex tiles are made natively.
    native = load(**sizes, processing__engine="native")
    for config in (four, native):
        assert stage_resources(config, "convert_complex", threads=1).cores == 1
    assert stage_resources(native, "process_tiles").memory_mb < one.memory_mb


def test_another_engine_or_toolbox_is_another_parameter(load, tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("wave-pixel.mat", "dispersion.bin"):
        (tmp_path / "raw" / name).write_bytes(b"x")
    stage = find_stage("process_tiles")

    def of(toolbox="toolbox", **overrides):
        matlab = {"toolbox_dir": toolbox}
        return stage.params_sha256(load(processing__matlab=matlab, **overrides), "normal")

    for name, text in (("toolbox", "% 1"), ("other", "% 2"), ("copy", "% 1")):
        function = tmp_path / name / "+psoct/+file/f.m"
        function.parent.mkdir(parents=True)
        function.write_text(text)
        (tmp_path / name / ".git").mkdir()
        (tmp_path / name / ".git/x.m").write_text(name)
        (tmp_path / name / "README.md").write_text(name)
    native = of(processing__engine="native")
    assert of() != native
    assert of() == of(processing__engine="matlab-engine")
    assert of(toolbox="other") != of()
    assert of(toolbox="copy") == of()
    # The native engine does not look at what it does not use.
    assert of(toolbox="nowhere", processing__engine="native") == native
    with pytest.raises(ConfigError, match=r"toolbox_dir .*nowhere is not a folder"):
        of(toolbox="nowhere")
