"""Which way depth runs in the tiles of a mosaic: what is made of them begins at the surface."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io import nifti
from opticstream_smk.plan import Plan
from opticstream_smk.state.flags import read_flag

_SURFACE_FIRST, _SURFACE_LAST = "flipped", "raw"


def is_surface_last(plan: Plan, mosaic: int) -> bool:
    """Whether the tiles of a mosaic lie upside down, as they do with ``flip_z: false``.

    Raises
    ------
    CorruptInputError
        Its batches do not agree.
    """
    found: dict[str, list[int]] = {}
    for batch in plan.counted_batches(mosaic):
        flag = read_flag(plan.layout.batch_flag(mosaic, batch, "processed"))
        if flag is not None:
            order = str(flag.extra.get("z_order", _SURFACE_FIRST))
            found.setdefault(order, []).append(batch)
    if len(found) > 1:
        raise CorruptInputError(
            f"mosaic {mosaic:03d}: batches {found[_SURFACE_LAST]} have their surface last "
            "(processing.flip_z: false), the others first; expected one order of depth. "
            f"`optic-trigger redo --from process_tiles --mosaic {mosaic}` makes them alike."
        )
    return _SURFACE_LAST in found


class TileVolume:
    """A tile's volume (Z, y, x) from its top down, of which parts are read.

    Raises
    ------
    IncompleteInputError, CorruptInputError
        It is not there, or not of that shape.
    """

    def __init__(
        self, path: Path, shape_zyx: tuple[int, int, int], *, surface_last: bool = False
    ) -> None:
        self._reader = nifti.StackReader(path, shape_zyx[::-1])
        self._surface_last = surface_last
        self.shape = shape_zyx

    @property
    def identity(self) -> str:
        """Path, size and time of the file, and which way it is read."""
        return self._reader.identity + (" surface last" if self._surface_last else "")

    def read_rows(
        self, planes: tuple[int, int], rows: tuple[int, int], buffer: NDArray[np.float32]
    ) -> None:
        """Fill `buffer`, (planes, rows, x), contiguous."""
        if not self._surface_last:
            self._reader.read_rows(planes, rows, buffer)
            return
        first, last = planes
        self._reader.read_rows((self.shape[0] - last, self.shape[0] - first), rows, buffer)
        buffer[:] = buffer[::-1].copy()
