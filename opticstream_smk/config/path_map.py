"""Folders as the acquisition host names them, and where they are mounted here."""

import ntpath
import re
from collections.abc import Mapping
from pathlib import Path

from opticstream_smk.errors import ConfigError

_WINDOWS = re.compile(r"[A-Za-z]:([\\/]|$)|\\\\")


def map_folder(folder: str, path_map: Mapping[str, Path]) -> Path:
    r"""Translate a folder of the acquisition host to one of this host.

    Parameters
    ----------
    folder
        ``D:/x``, ``d:\x``, ``\\host\share\x``, or a folder of this host, which stays as it is
        unless a key covers it.
    path_map
        Folders of the acquisition host, in any of these spellings, to folders here. Windows
        tells no upper from lower case; what follows a key keeps its case. The longest key counts.

    Raises
    ------
    ConfigError
        A folder of Windows that no key covers.
    """
    best: tuple[int, Path] | None = None
    for key, target in path_map.items():
        # A share may also be written with slashes, which here begins a folder as well.
        is_windows = _is_windows(key) or key.startswith("//")
        parts, covering = _parts(folder, is_windows), _parts(key, is_windows)
        if parts is None or not covering or len(covering) > len(parts):
            continue
        compared = [part.lower() if is_windows else part for part in parts[: len(covering)]]
        if compared != [part.lower() if is_windows else part for part in covering]:
            continue
        if best is None or len(covering) > best[0]:
            best = (len(covering), target.joinpath(*parts[len(covering) :]))
    if best is not None:
        return best[1]
    if _is_windows(folder):
        known = f"; it has {', '.join(path_map)}" if path_map else ""
        raise ConfigError(
            f"{folder} is a folder of Windows and not known here. Add it, or a folder that holds "
            f"it, to watch.path_map with the place where it is mounted{known}"
        )
    return Path(folder)


def check_keys(path_map: Mapping[str, Path]) -> None:
    """Refuse keys that can cover nothing.

    Raises
    ------
    ConfigError
        A key that is no absolute folder of any host.
    """
    for key in path_map:
        if not (_is_windows(key) or key.startswith("/")):
            raise ConfigError(
                f"watch.path_map: {key!r} is no folder of the acquisition host; expected such as "
                r"D:/, D:/data, \\host\share or /data"
            )


def _is_windows(folder: str) -> bool:
    return _WINDOWS.match(folder) is not None


def _parts(folder: str, is_windows: bool) -> list[str] | None:
    """Components of an absolute folder of that kind; None for one of the other kind."""
    if is_windows:
        if not (_is_windows(folder) or folder.startswith("//")):
            return None
        # The drive, or the host and the share, come first; `.` and `..` are gone.
        normal = ntpath.normpath(folder)
        share = ["\\\\"] if normal.startswith("\\\\") else []
        return share + [part for part in normal.split("\\") if part]
    if _is_windows(folder) or not folder.startswith("/"):
        return None
    return [part for part in folder.split("/") if part and part != "."]
