"""Loops compiled by Numba, and where their machine code is kept.

Importing this takes about half a second: import modules with kernels where they are used.
"""

import os
import tempfile
from functools import partial
from pathlib import Path

import numba

kernel = partial(numba.njit, cache=True, nogil=True, error_model="numpy")
"""Decorator of a compiled loop: kept on disk, run without the interpreter lock, IEEE division."""


def _keep_code_somewhere() -> None:
    """Choose a folder for machine code where Numba's own choices cannot be written.

    Those are the ``__pycache__`` beside the source and the cache folder of the user; without
    either, on a read-only installation with a read-only home, Numba refuses to import.
    """
    beside = Path(__file__).parent / "__pycache__"
    # Path.expanduser raises where the process has no entry in the user database.
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    if numba.config.CACHE_DIR or any(map(_is_writable, (beside, home))):
        return
    folder = Path(tempfile.gettempdir()) / f"opticstream-smk-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Code is run from there: a folder that somebody else has made is not trusted.
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        folder = Path(tempfile.mkdtemp(prefix="opticstream-smk-kernels-"))
    numba.config.CACHE_DIR = str(folder)


def _is_writable(folder: Path) -> bool:
    if not folder.is_absolute():
        return False
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


_keep_code_somewhere()
