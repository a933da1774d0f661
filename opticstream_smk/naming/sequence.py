"""Where a tile belongs when its name says nothing but a running number.

Acquisition programs that know neither slices nor mosaics number their files from 1 on. The
number then runs through the mosaics of a slice and on into the next slice.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from opticstream_smk import naming
from opticstream_smk.errors import NamingError

INTERLEAVED = 3  # illuminations in one raw file: A-lines 1:3:end, 2:3:end and 3:3:end


class Place(NamedTuple):
    """Slice, position of the mosaic in the slice, and image in that mosaic; all 1-based."""

    slice: int
    position: int
    image: int


@dataclass(frozen=True)
class AcquisitionSequence:
    """Tiles numbered continuously over the mosaics of a slice, and over slices.

    Parameters
    ----------
    tiles_per_mosaic
        Tiles of each mosaic of a slice, in order of acquisition: ``(352, 352)`` for a normal
        and a tilted mosaic of 22 x 16. Its length is the number of mosaics per slice.
    start_slice, start_position
        The mosaic that image 1 is the first tile of.
    fixed_mosaic
        Whether the numbers belong to that one mosaic only. Images beyond its grid then belong
        nowhere.

    Raises
    ------
    NamingError
        When the start lies outside of a slice, or a mosaic has no tile.
    """

    tiles_per_mosaic: tuple[int, ...]
    start_slice: int = 1
    start_position: int = 1
    fixed_mosaic: bool = False

    def __post_init__(self) -> None:
        if min(self.tiles_per_mosaic, default=0) < 1:
            raise NamingError(
                f"tiles_per_mosaic {self.tiles_per_mosaic}: expected at least one tile each"
            )
        naming.mosaic_of_slice(self.start_slice, self.start_position, self.mosaics_per_slice)

    @property
    def mosaics_per_slice(self) -> int:
        """Mosaics of one slice."""
        return len(self.tiles_per_mosaic)

    def place(self, image: int) -> Place | None:
        """Place of the image with that running number.

        Returns
        -------
        Place or None
            None for an image beyond the grid of a fixed mosaic.
        """
        _check_image(image)
        if self.fixed_mosaic:
            if image > self.tiles_per_mosaic[self.start_position - 1]:
                return None
            return Place(self.start_slice, self.start_position, image)
        slices, within = divmod(image - 1 + self._before(self.start_position), self._per_slice)
        position = sum(end <= within for end in accumulate(self.tiles_per_mosaic)) + 1
        return Place(self.start_slice + slices, position, within - self._before(position) + 1)

    def first_image(self, slice_: int, position: int) -> int | None:
        """Running number of the first tile of a mosaic; the inverse of :meth:`place`.

        Returns
        -------
        int or None
            None for a mosaic before the start, and for all but the start of a fixed mosaic.
        """
        naming.mosaic_of_slice(slice_, position, self.mosaics_per_slice)
        start = (self.start_slice, self.start_position)
        if (slice_, position) < start or (self.fixed_mosaic and (slice_, position) != start):
            return None
        slices = slice_ - self.start_slice
        before_start = self._before(self.start_position)
        return slices * self._per_slice + self._before(position) - before_start + 1

    @property
    def _per_slice(self) -> int:
        return sum(self.tiles_per_mosaic)

    def _before(self, position: int) -> int:
        """Tiles of a slice before the mosaic at that position."""
        return sum(self.tiles_per_mosaic[: position - 1])


class InterleavedPlace(NamedTuple):
    """Slice and tile of a raw file with three illuminations, and the mosaics it yields.

    ``mosaics[k]`` takes the A-lines ``k::3`` (k from 0). All three have the tile as ``image``.
    """

    slice: int
    image: int
    mosaics: tuple[int, ...]


def place_interleaved(image: int, tiles_per_slice: int) -> InterleavedPlace:
    """Place of a raw file that holds three interleaved illuminations.

    The stage visits each place of the grid once, hence one slice has as many files as one
    mosaic has tiles, and the numbers run on over the slices.

    Parameters
    ----------
    image
        Running number of the file, from 1.
    tiles_per_slice
        ``grid_size_x * grid_size_y``.
    """
    _check_image(image)
    _check_tiles(tiles_per_slice)
    slices, within = divmod(image - 1, tiles_per_slice)
    return InterleavedPlace(
        slices + 1, within + 1, naming.mosaics_of_slice(slices + 1, INTERLEAVED)
    )


def interleaved_image(slice_: int, image: int, tiles_per_slice: int) -> int:
    """Running number of the file of a tile; the inverse of :func:`place_interleaved`."""
    _check_image(image)
    _check_tiles(tiles_per_slice)
    if slice_ < 1 or image > tiles_per_slice:
        raise NamingError(
            f"slice {slice_}, image {image}: expected a slice from 1 on and an image of 1 to "
            f"{tiles_per_slice}"
        )
    return (slice_ - 1) * tiles_per_slice + image


def _check_image(image: int) -> None:
    if image < 1:
        raise NamingError(f"image {image}: images are counted from 1")


def _check_tiles(tiles_per_slice: int) -> None:
    if tiles_per_slice < 1:
        raise NamingError(f"tiles_per_slice {tiles_per_slice}: expected at least one tile")
