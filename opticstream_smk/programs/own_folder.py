"""A folder that a program of somebody else's writes into, and nobody else."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from opticstream_smk.io.atomic import write_error


@contextlib.contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder, removed in the end; those of this prefix that a killed run left go first.

    Parameters
    ----------
    parent
        Made if it is not there.
    prefix
        Beginning of its name. Whoever uses it holds a lock: no other run with it is at work.

    Raises
    ------
    ServiceError
        The disk refuses.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own, for a program that nobody could end may still write into the last one.
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise write_error(parent / prefix, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
