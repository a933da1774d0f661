"""The strings that MATLAB gets, to the letter."""

import math
import subprocess
from pathlib import Path

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.errors import ConfigError
from opticstream_smk.matlab.commands import batch_command, with_toolbox
from opticstream_smk.matlab.literals import literal
from opticstream_smk.matlab.options import (
    AcquisitionOptions,
    EnfaceOptions,
    PipelineOptions,
    SpectralOptions,
    SurfaceOptions,
    VolumeOptions,
    pipeline_options,
)
from opticstream_smk.matlab.run import run_matlab
from tests.conftest import small_values

DEFAULTS = PipelineOptions(
    spectral=SpectralOptions(),
    surface=SurfaceOptions(),
    enface=EnfaceOptions(),
    acquisition=AcquisitionOptions(),
    volume=VolumeOptions(),
)
ENFACE = (
    "struct('Offset', 0.0, 'Depth', 70.0, 'OriMethod', 'circularMean', 'OriMethodArgs', struct(), "
    "'BirefMethod', 'legacy', 'BirefMethodArgs', struct(), 'Compute', struct('aip', true, "
    "'mip', true, 'ret', true, 'ori', true, 'biref', true), 'Save2DAs3D', true)"
)
ACQUISITION = (
    "struct('PixelDimensionsUm', [10, 10, 2.5], 'WavelengthUm', 0.0013, 'SliceThicknessUm', 500.0)"
)
VOLUME = "struct('flipPhase', false, 'phaseOffset', 1.7453292519943295, 'flipZ', true)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "''"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's 'here'", "'it''s ''here'''"),
        ('say "x" 100% ...', "'say \"x\" 100% ...'"),
        ("Größe/猫", "'Größe/猫'"),
        (Path("/a/b'c"), "'/a/b''c'"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-3, "-3"),
        (2.0, "2.0"),
        (1e-07, "1e-07"),
        ([10, 10, 2.5], "[10, 10, 2.5]"),
        ([], "[]"),
        ([True, None], "[true, '']"),
        ({}, "struct()"),
        ({"a": 1, "b": {"c": "x"}}, "struct('a', 1, 'b', struct('c', 'x'))"),
        ((5, 5), "{{5, 5}}"),
    ],
)
def test_literals(value, text):
    assert literal(value) == text


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\rb", "\x7f"])
def test_text_that_matlab_source_cannot_hold_is_refused(text):
    with pytest.raises(ConfigError, match="control character"):
        literal({"k": text})


def test_no_options_are_empty_structs():
    command = batch_command("spectral", {1: Path("/r/f1"), 2: Path("/r/f2")}, Path("/o"), 3,
                            PipelineOptions())  # fmt: skip
    assert command == (
        "psoct.file.spectral2processed_batch_indexed({'/r/f1','/r/f2'}, '/o', 3, [1,2], struct(), "
        "struct(), struct(), struct(), struct(), struct(), '', [], 'process')"
    )


def test_the_toolbox_defaults():
    command = batch_command("spectral", {1: Path("f")}, Path("o"), 1, DEFAULTS)
    assert command == (
        "psoct.file.spectral2processed_batch_indexed({'f'}, 'o', 1, [1], "
        "struct('AlineSize', 200, 'BlineSize', 350, 'isRawFormat', false), struct(), "
        f"{ENFACE}, {ACQUISITION}, struct(), {VOLUME}, '', [], 'process')"
    )
    command = batch_command("complex", {1: Path("f")}, Path("o"), 1, DEFAULTS)
    assert command == (
        "psoct.file.complex2processed_batch_indexed({'f'}, 'o', 1, [1], struct(), "
        f"{ENFACE}, {ACQUISITION}, struct(), {VOLUME}, '', [], 'process')"
    )


def config_of(tmp_path, **overrides):
    usual = {
        "acquisition__samples_per_aline": 2048,
        "acquisition__dispersion_file": "Daten & 'Größen'/disp.bin",
        "processing__engine": "matlab-batch",
        "processing__complex": "discard",
        "processing__matlab": {"toolbox_dir": "tool box"},
    }
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(small_values(**{**usual, **overrides})))
    return load_config(path)


def test_every_option_of_the_configuration(tmp_path):
    config = config_of(
        tmp_path,
        acquisition__tile_saving_type="spectral_12bit",
        acquisition__scan_resolution_3d_mm=[0.02, 0.0035, 0.003],
        acquisition__wavelength_um=1.31,
        acquisition__slice_thickness_um=450,
        processing__phase_offset_deg=-45.5,
        processing__flip_phase=True,
        processing__flip_z=False,
        processing__surface="gradientThreshold",
        processing__surface_args=[20, 55, 7, 7],
        processing__offset_px=-5,
        processing__depth_px=90,
        processing__ori_method="mean",
        processing__biref_method="fft",
        processing__modalities=["aip", "biref", "ori"],
        mosaic__modalities=["aip", "biref", "ori"],
    )
    files = {17: Path("/raw/it's.raw"), 18: Path("/raw/Größe 2.raw")}
    command = with_toolbox(
        Path("/opt/psoct's toolbox"),
        batch_command("spectral", files, Path("/out dir/ü"), 12,
                      pipeline_options(config, "tilted"), num_workers=4, pool_type="thread"),
    )  # fmt: skip
    assert command == (
        "addpath(genpath('/opt/psoct''s toolbox'));"
        "psoct.file.spectral2processed_batch_indexed({'/raw/it''s.raw','/raw/Größe 2.raw'}, "
        "'/out dir/ü', 12, [17,18], "
        f"struct('dispCompFile', '{tmp_path}/Daten & ''Größen''/disp.bin', 'AlineSize', 10, "
        "'BlineSize', 8, 'isRawFormat', true), "
        "struct('Spec', 'gradientThreshold', 'Args', {{20, 55, 7, 7}}), "
        "struct('Offset', -5.0, 'Depth', 90.0, 'OriMethod', 'legacy', 'OriMethodArgs', struct(), "
        "'BirefMethod', 'fft', 'BirefMethodArgs', struct(), 'Compute', struct('aip', true, "
        "'mip', false, 'ret', false, 'ori', true, 'biref', true), 'Save2DAs3D', true), "
        "struct('PixelDimensionsUm', [20.0, 3.5, 3.0], 'WavelengthUm', 1.31, "
        "'SliceThicknessUm', 450.0), struct(), "
        f"struct('flipPhase', true, 'phaseOffset', {math.radians(-45.5)}, 'flipZ', false), "
        "'', 4, 'thread')"
    )


@pytest.mark.parametrize(
    ("surface", "args", "text"),
    [
        ("find", [], "struct('Spec', 'gradient')"),
        ("gradient ", [], "struct('Spec', 'gradient')"),
        ("gradient", [7, 7], "struct('Spec', 'gradient', 'Args', {{7, 7}})"),
        ("310", [], "struct('Spec', 310)"),
        ("/s/su'rf.nii", [], "struct('Spec', '/s/su''rf.nii')"),
    ],
)
def test_surfaces(tmp_path, surface, args, text):
    config = config_of(tmp_path, processing__surface=surface, processing__surface_args=args)
    assert pipeline_options(config, "normal").group("surface") == text


@pytest.mark.parametrize(
    ("z_order", "flip_z", "text"),
    [("raw", True, "true"), ("flipped", True, "false"),
     ("raw", False, "false"), ("flipped", False, "true")],
)  # fmt: skip
def test_complex_tiles_of_the_host_come_in_either_depth_order(tmp_path, z_order, flip_z, text):
    config = config_of(
        tmp_path,
        acquisition__tile_saving_type="complex",
        acquisition__complex_z_order=z_order,
        processing__flip_z=flip_z,
    )
    options = pipeline_options(config, "normal")
    assert options.group("volume").endswith(f"'flipZ', {text})")
    assert options.spectral is None


def test_complex_tiles_of_our_own_are_as_transformed(tmp_path):
    config = config_of(tmp_path, acquisition__complex_z_order="flipped", processing__complex="keep")
    assert "'flipZ', true" in pipeline_options(config, "normal").group("volume")


def test_orientation_is_always_asked_for(tmp_path):
    """Without it some versions of the toolbox fail, and make no birefringence."""
    config = config_of(
        tmp_path,
        processing__modalities=["aip", "biref"],
        mosaic__modalities=["aip", "biref"],
        registration__enabled=False,
    )
    assert "'ori', true" in pipeline_options(config, "normal").group("enface")


def test_octave_reads_literals_back(octave):
    """What is written is what an interpreter understands."""
    value = {
        "s": 'it\'s "ü" % ...',
        "n": [1, -2.5],
        "b": True,
        "e": {},
        "c": (5, "x"),
        "none": None,
    }
    code = (
        f"v = {literal(value)}; printf('%s|%g %g|%d %d|%d|%d|%s|%d', v.s, v.n, v.b, "
        "islogical(v.b), numel(fieldnames(v.e)), "
        "iscell(v.c) && v.c{1} == 5, v.c{2}, isempty(v.none))"
    )
    done = subprocess.run(
        [octave, "--quiet", "--norc", "--eval", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == 'it\'s "ü" % ...|1 -2.5|1 1|0|1|x|1'


def test_code_that_is_too_long_for_a_command_line():
    with pytest.raises(ConfigError, match=r"grid_size_y smaller"):
        run_matlab(["true", "x" * 200_000], limit_s=60)
