"""What the Snakefile needs: the project of this run, its paths and its sizes."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from opticstream_smk.config import Config, find_config
from opticstream_smk.config.load import check_config, read_yaml
from opticstream_smk.errors import ConfigError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan, makes_complex, project_layout
from opticstream_smk.stages.resources import stage_resources

# In the place of a modality: the flag that all volumes are there is volume_stitched.
_ALL_VOLUMES = "stitched"


def workflow_folder() -> Path:
    """Folder with Snakefile, rules and profiles: in the wheel, or the root of a checkout."""
    package = Path(__file__).resolve().parent
    carried = package / "workflow"
    return carried if (carried / "Snakefile").is_file() else package.parent


def find_profile(name: str) -> Path:
    """Folder of a snakemake profile: one of this project, by name, or any folder.

    Raises
    ------
    ConfigError
        No such profile; lists those that there are.
    """
    own = workflow_folder() / "profiles"
    for folder in (own / name, Path(name)):
        if (folder / "config.yaml").is_file():
            return folder.resolve()
    known = sorted(path.name for path in own.iterdir()) if own.is_dir() else []
    raise ConfigError(
        f"profile {name} is not found: expected one of {', '.join(known)}, or a folder with a "
        "config.yaml. Correct --profile."
    )


@dataclass(frozen=True)
class WorkflowProject:
    """The project that a snakemake run works on; all paths are relative to its folder.

    Attributes
    ----------
    config_path
        Given to every stage.
    workflow
        Snakemake's own object.
    """

    config: Config
    config_path: Path
    workflow: Any

    @property
    def force_all(self) -> bool:
        """Whether ``--forceall`` was given; known only after the Snakefile has been read."""
        return bool(self.workflow.dag_settings and self.workflow.dag_settings.forceall)

    @cached_property
    def layout(self) -> ProjectLayout:
        """Paths of the project."""
        return project_layout(self.config)

    @cached_property
    def plan(self) -> Plan:
        """What is ready, looked at once for each run of snakemake."""
        return Plan(self.config, self.layout)

    @property
    def makes_complex(self) -> bool:
        """Whether batches have complex tiles of their own."""
        return makes_complex(self.config)

    def memory_mb(self, stage: str) -> int:
        """Memory of a job of a stage."""
        return stage_resources(self.config, stage).memory_mb

    def tile_threads(self, stage: str) -> int:
        """Threads of a job of a stage that works on tiles."""
        threads = self.config.run.tile_threads
        return stage_resources(self.config, stage, threads=threads).cores

    def volume_threads(self, modality: str) -> int:
        """Threads of a job that stitches a volume; the last one only looks at the others."""
        return 1 if modality == _ALL_VOLUMES else self.config.run.volume_threads

    def volume_memory_mb(self, modality: str) -> int:
        """Memory of such a job."""
        return self.memory_mb("finish_volumes" if modality == _ALL_VOLUMES else "stitch_volume")

    def volume_option(self, modality: str) -> str:
        """Option of the stage command for such a job."""
        return "" if modality == _ALL_VOLUMES else f"--modality {modality}"

    def volume_inputs(self, mosaic: int, modality: str) -> list[str]:
        """Flags that a volume is made from, and that it follows when they change."""
        states = self.plan.volume_flags[:-1] if modality == _ALL_VOLUMES else ("stitched",)
        return [self.layout.relative(self.layout.mosaic_flag(mosaic, state)) for state in states]

    def focus_flags(self, mosaic: int, modality: str) -> list[str]:
        """Flag of the focus plane that a volume is stitched along, if there is to be one."""
        if modality == _ALL_VOLUMES or not self.config.fits_focus:
            return []
        acquisition = self.plan.acquisition(mosaic)
        return [self.layout.relative(self.layout.focus_flag(acquisition))]

    def batch_flags(self, mosaic: int, state: str) -> list[str]:
        """Flags of every batch that a mosaic is made from."""
        return [
            self.layout.relative(self.layout.batch_flag(mosaic, batch, state))
            for batch in self.plan.counted_batches(mosaic)
        ]

    def mosaic_flags(self, slice_: int, state: str) -> list[str]:
        """Flags of every mosaic of a slice."""
        return [
            self.layout.relative(self.layout.mosaic_flag(mosaic, state))
            for mosaic in self.plan.mosaics(slice_)
        ]

    def template_flag(self, mosaic: int) -> str:
        """Flag of the template that a mosaic is stitched with."""
        acquisition = self.plan.acquisition(mosaic)
        return self.layout.relative(self.layout.tilemap_flag(acquisition))

    def coordinates_flag(self, mosaic: int) -> list[str]:
        """Flag of the coordinates that a mosaic is stitched with.

        What an earlier version stitched without is left alone, unless everything is forced.
        """
        if not self.plan.uses_coordinates(mosaic) and not self.force_all:
            return []
        return [self.layout.relative(self.layout.mosaic_flag(mosaic, "coordinates"))]


def set_up(workflow: Any, config: dict[str, Any]) -> WorkflowProject:
    """Choose and check the configuration of a snakemake run.

    Parameters
    ----------
    workflow, config
        Snakemake's own objects of these names.

    Raises
    ------
    ConfigError
        No configuration, a wrong one, or values given by ``--config``: stages read the file; or a
        pipeline without rules.
    """
    given = workflow.overwrite_configfiles
    if len(given) > 1:
        raise ConfigError(
            f"{len(given)} configuration files given ({', '.join(map(str, given))}); a project "
            "has one"
        )
    path = find_config(Path(given[0]) if given else None)
    values = read_yaml(path)
    overridden = sorted(key for key in config if config[key] != values.get(key))
    if overridden:
        raise ConfigError(
            f"--config {' '.join(overridden)}: values on snakemake's command line would not reach "
            f"the stages, which read {path}. Write them into that file."
        )
    checked = check_config(values, path)
    elsewhere = workflow.overwrite_workdir
    if elsewhere is not None and Path(elsewhere).resolve() != checked.project.dir.resolve():
        raise ConfigError(
            f"--directory {elsewhere}: flags and products lie in project.dir of {path}, which is "
            f"{checked.project.dir}. Leave --directory out."
        )
    # The stage commands are installed beside the interpreter that runs snakemake.
    scripts = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
    if checked.project.pipeline == "lsm":
        raise ConfigError(
            f"{path}: project.pipeline lsm has no rules in this version; `optic-trigger watch` "
            "enters its strips into the queue"
        )
    # For the events of a run by hand; the watcher sets these for its own runs.
    os.environ.setdefault("OPTIC_PROJECT_NAME", checked.project.name)
    os.environ.setdefault("OPTIC_PROJECT_DIR", str(checked.project.dir))
    project = WorkflowProject(config=checked, config_path=path, workflow=workflow)
    project.plan.check_grid()
    return project
