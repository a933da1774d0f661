"""From files in a raw folder to batches that are ready; and any folder's new files, told."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opticstream_smk.trigger.files import FileWatcher, ImageWatcher

__all__ = ["FileWatcher", "ImageWatcher"]


def __getattr__(name: str) -> Any:
    # Not imported above: every start of the workflow comes through here, and needs no watchdog.
    if name in __all__:
        from opticstream_smk.trigger import files

        return getattr(files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
