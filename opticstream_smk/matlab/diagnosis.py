"""What MATLAB's output says about a failure, as one of this project's errors."""

import re
import sys
from collections.abc import Iterable, Sequence

from opticstream_smk.config.processing import ProcessingSection
from opticstream_smk.errors import ConfigError, OpticStreamError, ResourceError, ServiceError
from opticstream_smk.matlab.engine_process import NO_ENGINE
from opticstream_smk.programs.run import ProgramRun, indented, last_lines, signal_name
from opticstream_smk.programs.supervise import NOT_STARTED

_LINES_SHOWN = 6

# Text that MATLAB or Octave print, the error that it means, and what to do. The first that is
# found decides.
_CAUSES: tuple[tuple[str, type[OpticStreamError], str], ...] = (
    (
        r"Licen[cs]e checkout failed|Licen[cs]e Manager Error|Licensing error|"
        r"(unable|failed) to check ?out .*licen[cs]e",
        ServiceError,
        "MATLAB got no licence. Check the licence server and its seats (run.max_tile_jobs limits "
        "how many are in use); it is tried again",
    ),
    (
        r"Out of memory|bad_alloc|memory exhausted|out of memory or dimension too large|"
        r"OutOfMemory",
        ResourceError,
        "MATLAB ran out of memory. Lower processing.matlab.num_workers or run.max_tile_jobs",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        ServiceError,
        "MATLAB could not write: the disk is full. Free some space; it is tried again",
    ),
    (
        r"Undefined (function|variable)|Unrecognized function or variable|"
        r"Unable to resolve the name|'[^']+' undefined|in package '[^']+' does not exist",
        ConfigError,
        "MATLAB lacks a function. Set processing.matlab.toolbox_dir to a psoct-toolbox that fits, "
        "and install the MATLAB toolboxes that it needs",
    ),
)


def failure_of(
    run: ProgramRun, processing: ProcessingSection, *, limit_s: float, log_hint: str = ""
) -> OpticStreamError | None:
    """The error that a run of MATLAB ended with; None when it ended well.

    Parameters
    ----------
    limit_s
        Time that it had.
    log_hint
        Where all of its output is.
    """
    said = f" It said last:\n{last_lines(run.lines)}{log_hint}"
    if run.code is None:
        return ServiceError(
            f"MATLAB was ended after {limit_s:g} s without coming to an end; expected "
            "processing.matlab.tile_timeout_s for each tile at most. See what it waits for, or "
            f"raise that.{said}"
        )
    if run.code == 0:
        return None
    if run.code == NOT_STARTED and processing.engine == "matlab-batch":
        return ConfigError(
            f"`{processing.matlab.program}` cannot be started; give its full path in "
            f"processing.matlab.command, or install it.{said}"
        )
    if run.code == NO_ENGINE and processing.engine == "matlab-engine":
        return ConfigError(f"{engine_remedy()}{said}")
    cause = cause_of(run.lines, log_hint)
    if cause is not None:
        return cause
    if run.code > 128:
        return ResourceError(
            f"MATLAB was ended by {signal_name(run.code - 128)}; if that was for want of memory, "
            f"lower processing.matlab.num_workers or run.max_tile_jobs.{said}"
        )
    return OpticStreamError(
        f"MATLAB ended with exit code {run.code}, expected 0. Mend what it says, then retry.{said}"
    )


def cause_of(lines: Sequence[str], log_hint: str = "") -> OpticStreamError | None:
    """The error that the output names; None when it names none that is known."""
    for pattern, kind, text in _CAUSES:
        found = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
        if found:
            return kind(f"{text}. It said:\n{indented(found[:_LINES_SHOWN])}{log_hint}")
    return None


def lines_about(lines: Iterable[str], names: Iterable[str]) -> str:
    """Lines that have one of some names in them, for a message; empty without any."""
    wanted = tuple(names)
    return indented(
        [line for line in lines if any(name in line for name in wanted)][-_LINES_SHOWN:]
    )


def engine_remedy() -> str:
    """What to do where Python has no engine for MATLAB."""
    return (
        f"{sys.executable} cannot import matlab.engine, which processing.engine matlab-engine "
        "needs. Install the engine of your MATLAB release there (pip install "
        "'matlabengine==24.1.*' for R2024a; docs/matlab.md), or set processing.engine: matlab-batch"
    )
