"""Small files that the processes of all users of one host share, in one folder.

The folder lies where everybody can write, so nothing in it is trusted: links are not followed, and
only plain files are opened.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opticstream_smk.errors import ConfigError
from opticstream_smk.io.atomic import write_error

FOLDER_MODE = 0o1777  # everybody may write, only the owner of a file may remove it: as /tmp
FILE_MODE = 0o666


def make_shared_folder(folder: Path) -> None:
    """Make the folder for everybody if it is not there, and check that it can be used.

    Raises
    ------
    ConfigError
        It is a link, or no folder.
    ServiceError
        It cannot be made or written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            pass  # an existing folder keeps the mode that its owner chose
        else:
            folder.chmod(FOLDER_MODE)  # mkdir itself obeys the umask
        mode = folder.lstat().st_mode
    except OSError as error:
        raise write_error(folder, error) from error
    if stat.S_ISLNK(mode):
        raise ConfigError(
            f"token folder {folder} is a symbolic link, which may lead anywhere; remove it, or "
            "set run.token_dir to the folder that is meant"
        )
    if not stat.S_ISDIR(mode):
        raise ConfigError(
            f"token folder {folder} is not a folder; remove it, or set run.token_dir to another"
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise write_error(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def create_shared(path: Path) -> int:
    """Make a file that everybody may open, and open it.

    Raises
    ------
    FileExistsError
        It is there already.
    OSError
        It cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)  # open itself obeys the umask
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_shared(path: Path) -> int:
    """Open a file for everybody; make it if it is not there.

    Raises
    ------
    OSError
        It cannot be opened, or is no plain file of its own.
    """
    while True:
        try:
            # Without O_CREAT: with it, kernels refuse files of others in folders such as /tmp
            # (fs.protected_regular). O_NONBLOCK: a pipe in its place must not stop us.
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            try:
                return create_shared(path)
            except FileExistsError:
                continue
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EPERM, "not a plain file of its own; remove it")


@contextmanager
def hold_shared(path: Path) -> Iterator[int]:
    """Hold the lock on a file for everybody, for moments only; waits for it.

    Yields
    ------
    int
        Descriptor of the file, open for reading and writing.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    descriptor = _open_locked(path)
    try:
        yield descriptor
    finally:
        # A process forked meanwhile has a copy of the descriptor: closing ours frees nothing.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = open_shared(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed while we waited: others would lock its successor


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
