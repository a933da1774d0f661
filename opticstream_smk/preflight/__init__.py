"""Before a run: is everything there, does the first tile look right, will space and time do.

Source folders are only read, and of what is tried in the project folder nothing stays behind but
``report/preflight.jpg``.
"""

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

from opticstream_smk import estimate
from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError, OpticStreamError
from opticstream_smk.plan import Plan, makes_tile_qc, project_layout
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.archive import check_archive
from opticstream_smk.preflight.calibration import check_calibration
from opticstream_smk.preflight.check import Check, exit_code, failed_by, note, ok
from opticstream_smk.preflight.coordinates import check_coordinates
from opticstream_smk.preflight.folders import check_project, check_sources
from opticstream_smk.preflight.grid import check_grid
from opticstream_smk.preflight.host import check_host
from opticstream_smk.preflight.matlab import check_matlab
from opticstream_smk.preflight.pace import TileTime, check_pace
from opticstream_smk.preflight.raw_files import RawFiles, check_files, check_names, look
from opticstream_smk.preflight.room import check_room
from opticstream_smk.preflight.sizes import check_sizes, fits, is_being_written
from opticstream_smk.preflight.software import check_software
from opticstream_smk.preflight.strips import check_strips
from opticstream_smk.preflight.volumes import check_volumes
from opticstream_smk.trigger.batches import needed_files


@dataclass(frozen=True)
class Options:
    """What a person asks for.

    Attributes
    ----------
    slices
        Slices that are planned; None: those of which there is any tile, at least one.
    mosaic, image
        Tile to decode; None: the first that is there.
    profile
        Snakemake profile that will be used.
    """

    slices: int | None = None
    mosaic: int | None = None
    image: int | None = None
    profile: str = "zircon"


@dataclass
class Report:
    """Every check, in the order in which they were made.

    Attributes
    ----------
    picture
        The first tile, shown; None when it could not be.
    """

    checks: list[Check] = field(default_factory=list)
    picture: Path | None = None

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return exit_code(self.checks)

    def count(self, verdict: str) -> int:
        """Checks with that verdict."""
        return sum(check.verdict == verdict for check in self.checks)


def run_preflight(config: Config, options: Options) -> Report:
    """Make every check that can be made; a failed one stops no other."""
    report = Report()
    report.checks.append(_check_configuration(config))
    report.checks += check_sources(config)
    project = check_project(config)
    report.checks.append(project)
    if config.project.pipeline == "lsm":
        report.checks += check_strips(config, options.slices)
        report.checks.append(note("archive", "light-sheet strips stay where they are"))
    else:
        _check_tiles(config, options, report, writable=project.verdict != "FAILED")
    report.checks += check_host(config)
    report.checks += check_software(options.profile)
    report.checks += check_matlab(config)
    report.checks += check_coordinates(config)
    return report


def refused(error: ConfigError) -> Report:
    """Report of a configuration that cannot be loaded: nothing else can be looked at."""
    return Report([failed_by("configuration", error)])


def _check_configuration(config: Config) -> Check:
    name = "configuration"
    if config.project.pipeline == "psoct":
        try:
            Plan(config, project_layout(config)).check_grid()
        except OpticStreamError as error:
            return failed_by(name, error)
    return ok(name, f"project {config.project.name} ({config.project.pipeline})")


def _check_tiles(config: Config, options: Options, report: Report, *, writable: bool) -> None:
    raw = look(config)
    report.checks += check_names(config, raw)
    report.checks += check_files(raw)
    report.checks += check_grid(raw)
    report.checks += check_sizes(raw)
    calibration = check_calibration(config)
    report.checks += calibration
    slices, assumption = max(raw.slices, 1), "as many as have tiles"
    if options.slices is not None:
        slices, assumption = options.slices, "as --slices says"
    elif not raw.files:
        assumption = "one, as there is no tile yet"
    if any(check.verdict == "FAILED" for check in calibration):
        report.checks.append(note("first tile", "not decoded: see calibration"))
    else:
        _show_tile(raw, options, report, slices=slices, writable=writable)
    report.checks += check_archive(config, slices, assumption)
    report.checks += check_volumes(config, slices)
    report.checks += check_room(config, raw, slices=slices, assumption=assumption)


def _show_tile(
    raw: RawFiles, options: Options, report: Report, *, slices: int, writable: bool
) -> None:
    """Decode, judge, draw and time one tile."""
    name = "first tile"
    try:
        chosen = _choose(raw, options)
    except ConfigError as error:
        report.checks.append(failed_by(name, error))
        return
    if chosen is None:
        report.checks.append(note(name, "no tile yet: the first one cannot be decoded"))
        return
    mosaic, image = chosen
    files = raw.of_tile(mosaic, image)
    name = f"tile mosaic {mosaic:03d} image {image:04d}"
    missing = [modality for modality in needed_files(raw.config) if modality not in files]
    if missing:
        report.checks.append(note(name, f"not decoded: it has no {', '.join(missing)} yet"))
        return
    unfit = [file for file in files.values() if not fits(raw, file)]
    if any(is_being_written(raw, file) for file in unfit):
        report.checks.append(note(name, "not decoded: it is still being written"))
        return
    if unfit:
        report.checks.append(note(name, "not decoded: see the size of its file"))
        return
    try:
        _decode(raw, mosaic, image, report, slices=slices, writable=writable)
    except OpticStreamError as error:
        report.checks.append(failed_by(name, error))


def _choose(raw: RawFiles, options: Options) -> tuple[int, int] | None:
    asked = options.mosaic is not None or options.image is not None
    for file in raw.files:
        if options.mosaic in (None, file.mosaic) and options.image in (None, file.image):
            return file.mosaic, file.image
    if asked:
        mosaic = "any mosaic" if options.mosaic is None else f"mosaic {options.mosaic}"
        image = "" if options.image is None else f" with image {options.image}"
        raise ConfigError(
            f"no tile of {mosaic}{image} is there; correct --mosaic and --image, or leave them out"
        )
    return None


def _decode(
    raw: RawFiles, mosaic: int, image: int, report: Report, *, slices: int, writable: bool
) -> None:
    from opticstream_smk.preflight import signal, tile

    config = raw.config
    label = raw.label(mosaic)
    files = {modality: file.path for modality, file in raw.of_tile(mosaic, image).items()}
    decoded = tile.decode_tile(config, label, f"mosaic {mosaic:03d} image {image:04d}", files)
    report.checks += signal.check_counts(config, decoded)
    clock = [time.perf_counter()]
    numbers = tile.measure(config, decoded)
    clock.append(time.perf_counter())
    report.checks += signal.check_products(config, decoded, numbers)
    clock.append(time.perf_counter())
    speed = None
    n_bytes = estimate.batch_product_bytes(config, label) // config.acquisition.rows(label)
    if "dBI" not in decoded.products:
        report.checks.append(note("picture", "not drawn: the host saves maps and no volume"))
    elif writable:
        picture = project_layout(config).preflight_picture
        tile.draw(config, decoded, numbers, picture)
        report.picture = picture
    else:
        report.checks.append(note("picture", "not drawn: the project folder is not writable"))
    clock.append(time.perf_counter())
    if writable:
        speed = disk.probe(config.project.dir, links=False, speed_bytes=n_bytes)
    measured_s, validated_s, drawn_s = (b - a for a, b in itertools.pairwise(clock))
    # Products are validated in any case; the contact sheet can be switched off.
    pictures_s = measured_s + drawn_s if makes_tile_qc(config) else 0.0
    took = TileTime(
        label,
        compute_s=decoded.wall_s + validated_s + pictures_s,
        cpu_s=decoded.cpu_s + validated_s + pictures_s,
        write_s=n_bytes / speed if speed else None,
        is_warm=decoded.is_warm,
    )
    report.checks += check_pace(config, raw, took, slices=slices)
