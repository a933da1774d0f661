"""A source folder: its listing, or why it is away."""

import os
from pathlib import Path


class SourceFolder:
    """A folder that the acquisition host writes to, listed again and again.

    A disk that is not mounted leaves an empty folder, or the folder of another disk, in its place:
    that is no reason to take everything in it for deleted.

    Parameters
    ----------
    path
        The folder; it need not exist yet.

    Attributes
    ----------
    message
        Why the folder is away, for people; None when it is fine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.message: str | None = None
        self._device: int | None = None
        self._seen: list[os.DirEntry[str]] = []

    def entries(self, *, in_use: bool = False) -> list[os.DirEntry[str]] | None:
        """List the folder once.

        Parameters
        ----------
        in_use
            Something in it is being followed. The folder is then away, too, when it is suddenly
            empty, and when it lies on another disk and has nothing that was there before. (The
            device number alone proves nothing: a network share gets a new one with each mount.)

        Returns
        -------
        list of os.DirEntry or None
            In order of their names; None when the folder is away.
        """
        try:
            with os.scandir(self.path) as listing:
                found = sorted(listing, key=lambda entry: entry.name)
            # After the listing: what is unmounted in between must not pass for deleted.
            device = self.path.stat().st_dev
        except OSError as error:
            self.message = (
                f"source folder {self.path} cannot be listed ({error.strerror}); is the disk "
                "mounted? Correct acquisition.sources if the folder has moved."
            )
            return None
        if in_use and not found:
            self.message = (
                f"source folder {self.path} is empty, and it was not; is the disk mounted? What "
                "was seen in it is kept in mind until it is back or the watcher is restarted."
            )
            return None
        if in_use and self._device not in (None, device) and not self._has_known(found):
            self.message = (
                f"source folder {self.path} is on another disk, and nothing that was in it is "
                "there; is the right disk mounted? Restart the watcher if this is meant."
            )
            return None
        self.message = None
        self._device = device
        self._seen = found
        return found

    def _has_known(self, found: list[os.DirEntry[str]]) -> bool:
        return not {entry.name for entry in self._seen}.isdisjoint(entry.name for entry in found)
