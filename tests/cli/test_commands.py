import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from opticstream_smk.cli.trigger import COMMANDS
from tests.conftest import small_values

BIN = Path(sys.executable).parent
REPO = Path(__file__).resolve().parents[2]


def run(*command, cwd=None):
    env = {key: value for key, value in os.environ.items() if key != "OPTIC_CONFIG"}
    return subprocess.run(
        [BIN / command[0], *map(str, command[1:])],
        capture_output=True, text=True, cwd=cwd, env=env,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [("optic-trigger",), ("optic-stage",), *[("optic-trigger", name) for name in COMMANDS]],
)
def test_every_command_has_help(command):
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "import importlib\n"
        "import opticstream_smk.cli.trigger as trigger, opticstream_smk.cli.stage\n"
        "for name in trigger.COMMANDS:\n"
        "    importlib.import_module('opticstream_smk.cli.' + name.replace('-', '_'))\n"
        "heavy = {'numpy', 'pydantic', 'yaml', 'scipy', 'snakemake', 'rich', 'watchdog'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_usage_errors_exit_with_2(tmp_path):
    assert run("optic-trigger", "nonsense").returncode == 2
    assert run("optic-stage", "nonsense").returncode == 2
    missing = run("optic-stage", "process_tiles", "--mosaic", 1, cwd=tmp_path)
    assert missing.returncode == 2
    assert "--batch" in missing.stderr
    either = run("optic-stage", "solve_coordinates", cwd=tmp_path)
    assert either.returncode == 2
    assert "needs --acquisition or --mosaic" in either.stderr
    both = run("optic-stage", "solve_coordinates", "--mosaic", 1, "--acquisition", "normal")
    assert both.returncode == 2
    assert "not both" in both.stderr
    nothing = run("optic-trigger", "status", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "config/project.yaml" in nothing.stderr


def test_config_commands(tmp_path):
    assert run("optic-trigger", "config", "default").stdout.startswith("# Configuration")
    assert run("optic-trigger", "config", "schema").stdout.startswith("{")
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(small_values()))
    assert "fine" in run("optic-trigger", "config", "check", "--config", path).stdout
    path.write_text(yaml.safe_dump(small_values(mosaic__maks_sigma_px=1)))
    wrong = run("optic-trigger", "config", "check", "--config", path)
    assert wrong.returncode == 2
    assert "did you mean mask_sigma_px" in wrong.stderr


def test_a_stage_names_a_missing_calibration(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(small_values()))
    done = run("optic-stage", "convert_complex", "--config", path, "--mosaic", 1, "--batch", 1)
    assert done.returncode == 2
    assert "wave-pixel.mat" in done.stderr
    assert "acquisition.calibration_file" in done.stderr


@pytest.mark.parametrize("command", [("optic-trigger", "scan"), ("snakemake", "--profile")])
def test_light_sheet_projects_are_not_mistaken_for_psoct(tmp_path, command):
    values = small_values(project__pipeline="lsm")
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(values))
    if command[0] == "snakemake":
        done = run(*command, "zircon", "--configfile", tmp_path / "project.yaml", "-n", cwd=REPO)
        assert done.returncode != 0
    else:
        done = run(*command, "--config", tmp_path / "project.yaml")
        assert done.returncode == 2
    assert "optic-trigger watch" in done.stdout + done.stderr
