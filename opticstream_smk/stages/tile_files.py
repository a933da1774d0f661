"""Volumes of a tile on their way to disk: written while they are made, named when all is well."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import atomic_path, write_error


class TileFiles:
    """Float32 files (X, Y, Z) that are written some B-lines at a time.

    They have temporary names until all is well; else nothing is left behind. Use as a context
    around the writing, or hand what is left of it on:

        with TileFiles({"dBI": path}, shape, geometry) as files:
            ... files.write("dBI", start, stop, block) ...
            kept = files.keep()
        ...
        with kept:
            ... files.write("dBI", start, stop, block) ...

    Raises
    ------
    ServiceError
        The file system refuses; names the file and the remedy.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        shape: tuple[int, int, int],
        geometry: nifti.Geometry,
        *,
        description: str = "",
    ) -> None:
        self._paths = paths
        self._shape = shape
        self._geometry = geometry
        self._description = description
        self._stack = ExitStack()
        self._writers: dict[str, nifti.VolumeWriter] = {}

    def __enter__(self) -> "TileFiles":
        with ExitStack() as stack:
            for name, path in self._paths.items():
                temporary = stack.enter_context(atomic_path(path))
                writer = nifti.VolumeWriter(
                    temporary, self._shape, self._geometry, description=self._description
                )
                stack.callback(writer.close)
                self._writers[name] = writer
            self._stack = stack.pop_all()
        return self

    def write(self, name: str, start: int, stop: int, block: NDArray[Any]) -> None:
        """Write B-lines `start` to `stop` from `block` (Z, n, X)."""
        try:
            self._writers[name].write(start, stop, block)
        except OSError as error:
            raise write_error(self._paths[name], error) from error

    def keep(self) -> ExitStack:
        """Take the files out of this context, into the one that is returned."""
        return self._stack.pop_all()

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)
