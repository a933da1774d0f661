"""Reading a configuration file: aliases, early and clear errors, absolute paths."""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from opticstream_smk.config.model import Config
from opticstream_smk.config.path_map import check_keys, map_folder
from opticstream_smk.errors import ConfigError

# Names of the OCT design document (its sections 8.2 and 8.3), flat or inside their section.
ALIASES: dict[str, tuple[str, str]] = {
    "project_name": ("project", "name"),
    "project_base_path": ("project", "dir"),
    "grid_size_x_normal": ("acquisition", "grid_size_x_normal"),
    "grid_size_x_tilted": ("acquisition", "grid_size_x_tilted"),
    "grid_size_y": ("acquisition", "grid_size_y"),
    "tile_overlap": ("acquisition", "tile_overlap_percent"),
    "scan_resolution_3d": ("acquisition", "scan_resolution_3d_mm"),
    "wavelength": ("acquisition", "wavelength_um"),
    "slice_thickness": ("acquisition", "slice_thickness_um"),
    "mask_threshold_normal": ("mosaic", "mask_threshold_normal"),
    "mask_threshold_tilted": ("mosaic", "mask_threshold_tilted"),
    "surface_finding_method": ("processing", "surface"),
    "surface_spec": ("processing", "surface"),
    "stitch_3d_volumes": ("volume", "enabled"),
    "volume_modalities": ("volume", "modalities"),
    "crop_focus_plane_depth": ("volume", "depth_px"),
    "crop_focus_plane_offset": ("volume", "offset_px"),
    "depth": ("processing", "depth_px"),
    "offset": ("processing", "offset_px"),
    "gamma": ("registration", "gamma_deg"),
    # Names of OpticStream's project block; a dot leads into a section of a section.
    "matlab_num_workers": ("processing", "matlab.num_workers"),
    "matlab_pool_type": ("processing", "matlab.pool_type"),
}

# Names that OpticStream and psoct-toolbox use for what is called otherwise here.
RENAMED: dict[str, str] = {
    "disp_comp_file": "acquisition.dispersion_file",
    "dispCompFile": "acquisition.dispersion_file",
    "aline_size": "acquisition.tile_size_x_normal and tile_size_x_tilted",
    "AlineSize": "acquisition.tile_size_x_normal and tile_size_x_tilted",
    "bline_size": "acquisition.tile_size_y",
    "BlineSize": "acquisition.tile_size_y",
    "phase_offset": "processing.phase_offset_deg (degrees)",
    "phaseOffset": "processing.phase_offset_deg (degrees)",
    "enface_modalities": "processing.modalities",
    "mask_threshold": "mosaic.mask_threshold_normal and mask_threshold_tilted",
    "min_complex_file_size_bytes": "watch.min_file_bytes",
    "stability_seconds": "watch.stability_s",
    "matlab_processing_enabled": "processing.engine (native, matlab-engine or matlab-batch)",
    "matlab_root": "processing.matlab.toolbox_dir",
    "archive_path": "archive.dir",
    "archive_tile_name_format": "archive.name",
    "dandiset_path": "project.dandiset_dir",
}

CONFIG_VARIABLE = "OPTIC_CONFIG"
DEFAULT_CONFIG = Path("config/project.yaml")


def find_config(given: Path | None = None, *, root: Path | None = None) -> Path:
    """Choose the configuration file.

    Parameters
    ----------
    given
        File named on the command line; it wins.
    root
        Folder that holds ``config/project.yaml``; the current folder when not given.

    Raises
    ------
    ConfigError
        When no file is named by any of the three ways, or the named one does not exist.
    """
    if given is not None:
        return _existing(given, "named on the command line")
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return _existing(Path(named), f"named by ${CONFIG_VARIABLE}")
    default = (root or Path.cwd()) / DEFAULT_CONFIG
    if default.is_file():
        return default.resolve()
    raise ConfigError(
        "no configuration: give one with --configfile FILE (snakemake) or --config FILE "
        f"(optic-trigger, optic-stage), or set ${CONFIG_VARIABLE}, or write {default}. "
        "`optic-trigger config default` prints one to start from."
    )


def _existing(path: Path, how: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"configuration {path} ({how}) is not a file; check the path")
    return path.resolve()


def load_config(path: Path) -> Config:
    """Read, complete and check a configuration.

    Relative paths in the file are relative to the file's folder.

    Raises
    ------
    ConfigError
        Not readable, not YAML, or any value wrong; the message lists every offence.
    """
    return check_config(read_yaml(path), path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping that a configuration file holds; ConfigError when it holds none."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path} holds {type(loaded).__name__}, expected a mapping with the sections "
            f"{', '.join(Config.model_fields)}"
        )
    return loaded


_SECRET = re.compile(r"token|secret|password|passwd|api_?key|webhook|credential", re.IGNORECASE)
_NO_SECRETS = {"token_dir"}  # the tokens that jobs of a host take, not those of a service


def _refuse_secrets(values: Any, path: Path, place: str = "") -> None:
    """Secrets come from the environment: a configuration is copied, logged and committed."""
    if isinstance(values, dict):
        for key, value in values.items():
            where = f"{place}.{key}" if place else str(key)
            if _SECRET.search(str(key)) and key not in _NO_SECRETS:
                raise ConfigError(
                    f"{path}: {where} looks like a secret; secrets are read from the environment "
                    "only. Remove it from the file, and change it if the file was shared."
                )
            _refuse_secrets(value, path, where)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            _refuse_secrets(value, path, f"{place}[{index}]")


def check_config(values: dict[str, Any], path: Path) -> Config:
    """Validate values read from ``path``; see :func:`load_config`."""
    _refuse_secrets(values, path)
    try:
        config = Config.model_validate(_resolve_aliases(values, path))
    except ValidationError as error:
        offences = "\n".join(f"  {_explain(detail)}" for detail in error.errors())
        raise ConfigError(
            f"{path}: {error.error_count()} problem(s)\n{offences}\n"
            "`optic-trigger config default` prints every key with its meaning."
        ) from error
    try:
        return _absolute(config, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _resolve_aliases(values: dict[str, Any], path: Path) -> dict[str, Any]:
    resolved = {
        key: dict(value) if isinstance(value, dict) else value for key, value in values.items()
    }
    for alias, (section, field) in ALIASES.items():
        for place in (resolved, resolved.get(section)):
            if not isinstance(place, dict) or alias not in place:
                continue
            if place is not resolved and alias == field:
                continue
            value = place.pop(alias)
            target: Any = resolved
            *sections, key = f"{section}.{field}".split(".")
            for depth, name in enumerate(sections, start=1):
                inner = target.get(name, {})
                if not isinstance(inner, dict):
                    where = ".".join(sections[:depth])
                    raise ConfigError(f"{path}: section {where} must be a mapping")
                target[name] = inner if depth == 1 else dict(inner)
                target = target[name]
            if key in target and target[key] != value:
                raise ConfigError(
                    f"{path}: {alias} ({value!r}) and {section}.{field} ({target[key]!r}) name "
                    "the same thing; keep one"
                )
            target[key] = value
    return resolved


def _explain(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        *parents, key = detail["loc"]
        if str(key) in RENAMED:
            return f"{place}: is called {RENAMED[str(key)]} here; write that"
        close = difflib.get_close_matches(str(key), _field_names(parents), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{place}: unknown key{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in ("missing", "value_error"):
        return f"{place or 'config'}: {message}"
    return f"{place}: {message}; found {detail['input']!r}"


def _field_names(parents: list[Any]) -> list[str]:
    model: Any = Config
    for part in parents:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        nested = [annotation, *getattr(annotation, "__args__", ())]
        model = next(
            kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return list(model.model_fields)


def _absolute(config: Config, base: Path) -> Config:
    """Make every path absolute without following links: links are how labs move disks.

    Folders of raw data are written as the acquisition host names them, or as this one does.
    """

    def absolute(path: Path) -> Path:
        return Path(os.path.abspath(base / path.expanduser()))  # noqa: PTH100  # keeps links

    def resolve(path: Path | None) -> Path | None:
        return None if path is None else absolute(path)

    check_keys(config.watch.path_map)
    path_map = {key: absolute(place) for key, place in config.watch.path_map.items()}

    def source_folder(index: int, folder: Path) -> Path:
        try:
            return absolute(map_folder(str(folder), path_map))
        except ConfigError as error:
            raise ConfigError(f"acquisition.sources[{index}].dir: {error}") from error

    phase = config.acquisition.phase_calibration
    if phase is not None:
        phase = phase.model_copy(
            update={name: resolve(getattr(phase, name)) for name in type(phase).model_fields}
        )
    acquisition = config.acquisition.model_copy(
        update={
            "phase_calibration": phase,
            "sources": tuple(
                source.model_copy(update={"dir": source_folder(index, source.dir)})
                for index, source in enumerate(config.acquisition.sources)
            ),
            "calibration_file": resolve(config.acquisition.calibration_file),
            "dispersion_file": resolve(config.acquisition.dispersion_file),
        }
    )
    project = config.project.model_copy(
        update={
            "dir": resolve(config.project.dir),
            "dandiset_dir": resolve(config.project.dandiset_dir),
        }
    )
    archive = config.archive.model_copy(update={"dir": resolve(config.archive.dir)})
    _refuse_archive_among_sources(archive.dir, [source.dir for source in acquisition.sources])
    processing = config.processing
    if processing.surface.endswith((".nii", ".nii.gz")):
        surface = str(resolve(Path(processing.surface)))
        processing = processing.model_copy(update={"surface": surface})
    mosaic = config.mosaic
    executable = mosaic.fiji.executable
    if executable is not None and len(executable.parts) > 1:  # else a name on the PATH
        executable = absolute(executable)
    pattern = mosaic.tile_configuration
    mosaic = mosaic.model_copy(
        update={
            "fiji": mosaic.fiji.model_copy(update={"executable": executable}),
            "tile_configuration": None if pattern is None else str(absolute(Path(pattern))),
        }
    )
    toolbox_dir = resolve(processing.matlab.toolbox_dir)
    matlab = processing.matlab.model_copy(update={"toolbox_dir": toolbox_dir})
    processing = processing.model_copy(update={"matlab": matlab})
    return config.model_copy(
        update={
            "project": project,
            "acquisition": acquisition,
            "processing": processing,
            "mosaic": mosaic,
            "archive": archive,
            "watch": config.watch.model_copy(update={"path_map": path_map}),
            "run": config.run.model_copy(update={"token_dir": resolve(config.run.token_dir)}),
        }
    )


def _refuse_archive_among_sources(archive: Path | None, sources: list[Path]) -> None:
    """Source folders are only ever read, and what lies in them is taken for raw data."""
    for source in sources:
        if archive is not None and archive.resolve().is_relative_to(source.resolve()):
            raise ConfigError(
                f"archive.dir {archive} lies in the source folder {source}; expected another "
                "folder, best on another disk: source folders are only ever read"
            )
