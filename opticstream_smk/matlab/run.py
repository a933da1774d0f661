"""Running MATLAB code with the configured engine."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from opticstream_smk.config.processing import ProcessingSection
from opticstream_smk.errors import ConfigError
from opticstream_smk.programs.run import ProgramRun, run_program

# Linux takes no longer argument (MAX_ARG_STRLEN).
_LONGEST_ARGUMENT = 128 * 1024 - 1


def arguments(processing: ProcessingSection, command: str) -> list[str]:
    """Program and arguments that run MATLAB code with the configured engine."""
    if processing.engine == "matlab-engine":
        # -P: a folder `matlab` where the stage was started is not the engine.
        return [sys.executable, "-P", "-m", "opticstream_smk.matlab.engine_process", command]
    return processing.matlab.arguments(command)


def run_matlab(words: Sequence[str], *, limit_s: float, folder: Path | None = None) -> ProgramRun:
    """Run MATLAB to its end; see :func:`opticstream_smk.programs.run.run_program`.

    Raises
    ------
    ConfigError
        The command is too long for this system.
    """
    longest = max(len(os.fsencode(word)) for word in words)
    if longest > _LONGEST_ARGUMENT:
        raise ConfigError(
            f"the MATLAB code of this batch has {longest} bytes, {_LONGEST_ARGUMENT} fit on a "
            "command line; make acquisition.grid_size_y smaller, shorten the paths, or set "
            "processing.engine: native"
        )
    return run_program(words, limit_s=limit_s, name="matlab", folder=folder)
