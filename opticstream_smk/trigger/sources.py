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
        # Device and inode.
        self._identity: tuple[int, int] | None = None
        self._seen: list[os.DirEntry[str]] = []

    def entries(self, *, in_use: bool = False) -> list[os.DirEntry[str]] | None:
        """List the folder once.

        Parameters
        ----------
        in_use
            Something in it is being followed. The folder is then away, too, when another, empty
            folder is in its place, and when it lies on another disk and has nothing that was there
            before. (The device number alone proves nothing: a network share gets a new one with
            each mount.) The same folder as before that is empty now was emptied by somebody.

        Returns
        -------
        list of os.DirEntry or None
            In order of their names; None when the folder is away.
        """
        try:
            with os.scandir(self.path) as listing:
                found = sorted(listing, key=lambda entry: entry.name)
            # After the listing: what is unmounted in between must not pass for deleted.
            status = self.path.stat()
        except OSError as error:
            self.message = (
                f"source folder {self.path} cannot be listed ({error.strerror}); is the disk "
                "mounted? Correct acquisition.sources if the folder has moved."
            )
            return None
        identity = (status.st_dev, status.st_ino)
        is_other = in_use and self._identity not in (None, identity)
        if is_other and not found:
            self.message = (
                f"source folder {self.path} is empty, and it was not; is the disk mounted? What "
                "was seen in it is kept in mind until it is back or the watcher is restarted."
            )
            return None
        if is_other and not self._may_be_same(status.st_dev, found):
            self.message = (
                f"source folder {self.path} is on another disk, and nothing that was in it is "
                "there; is the right disk mounted? Restart the watcher if this is meant."
            )
            return None
        self.message = None
        self._identity = identity
        self._seen = found
        return found

    def _may_be_same(self, device: int, found: list[os.DirEntry[str]]) -> bool:
        if self._identity is None or self._identity[0] == device:
            return True
        return not {entry.name for entry in self._seen}.isdisjoint(entry.name for entry in found)
