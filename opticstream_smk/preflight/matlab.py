"""MATLAB and psoct-toolbox: there, and fit for the configuration. Nothing is started."""

from opticstream_smk import estimate
from opticstream_smk.config import Config
from opticstream_smk.config.matlab import notes
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.matlab.toolbox import check_program, check_toolbox, toolbox_folder
from opticstream_smk.plan import runs_matlab
from opticstream_smk.preflight.check import Check, failed_by, note, ok, warning
from opticstream_smk.stages.resources import stage_resources


def check_matlab(config: Config) -> list[Check]:
    """What the MATLAB engines need; nothing where MATLAB computes nothing."""
    if not runs_matlab(config):
        return []
    checks = [note("MATLAB", text) for text in notes(config.processing, config.acquisition)]
    engine = config.processing.engine
    try:
        checks.append(ok("MATLAB", f"{engine}: {check_program(config)}, not started"))
    except OpticStreamError as error:
        checks.append(failed_by("MATLAB", error))
    try:
        doubts = check_toolbox(config)
        checks.append(ok("psoct-toolbox", str(toolbox_folder(config))))
        checks += [
            warning("psoct-toolbox", doubt, "a copy of that file", "Look at it by hand")
            for doubt in doubts
        ]
    except OpticStreamError as error:
        checks.append(failed_by("psoct-toolbox", error))
    memory_gb = stage_resources(config, "process_tiles").memory_mb / 1000
    scan = config.acquisition
    volume_bytes = max(
        4 * 3 * scan.rows(label) * scan.alines(label) * scan.tile_size_y * scan.depth_samples
        for label in scan.labels
    )
    checks.append(
        note(
            "MATLAB",
            f"a batch takes {memory_gb:.3g} GB of memory and, while MATLAB works, "
            f"{estimate.format_bytes(volume_bytes)} on the disk of the project; the time of a tile "
            "above is that of the native engine, psoct-toolbox takes many times as long",
        )
    )
    return checks
