"""Names and numbers: the only place where a name is built or parsed.

Names of raw files are in :mod:`opticstream_smk.naming.inputs`, continuous numbers in
:mod:`opticstream_smk.naming.sequence`.

Ids are 1-based. ``parse_x(build(x)) == x`` holds for every pair here.
"""

import re
from dataclasses import dataclass

from opticstream_smk.errors import NamingError

NORMAL, TILTED = "normal", "tilted"
_ACQUISITIONS = {2: (NORMAL, TILTED), 3: (NORMAL, "tiltPos", "tiltNeg")}

VOLUME_MODALITIES = ("dBI", "R3D", "O3D")
ENFACE_MODALITIES = ("aip", "mip", "ret", "ori", "biref", "surf")
AXIAL_MODALITIES = ("ori", "O3D")  # degrees, period 180


# ------------------------------------------------------------------------- mosaic arithmetic
def _at_least_one(**ids: int) -> None:
    for name, value in ids.items():
        if value < 1:
            raise NamingError(f"{name} {value}: ids are counted from 1")


def acquisition_labels(mosaics_per_slice: int) -> tuple[str, ...]:
    """Labels of the mosaics of one slice, in order of acquisition."""
    try:
        return _ACQUISITIONS[mosaics_per_slice]
    except KeyError:
        raise NamingError(
            f"mosaics_per_slice {mosaics_per_slice}: expected one of "
            f"{', '.join(map(str, _ACQUISITIONS))}"
        ) from None


def slice_of_mosaic(mosaic: int, mosaics_per_slice: int = 2) -> tuple[int, int]:
    """Slice of a mosaic and the mosaic's position in it, both 1-based."""
    _at_least_one(mosaic=mosaic)
    acquisition_labels(mosaics_per_slice)
    return (mosaic - 1) // mosaics_per_slice + 1, (mosaic - 1) % mosaics_per_slice + 1


def mosaic_of_slice(slice_: int, position: int, mosaics_per_slice: int = 2) -> int:
    """Mosaic at a position of a slice; the inverse of :func:`slice_of_mosaic`."""
    _at_least_one(slice=slice_)
    if not 1 <= position <= len(acquisition_labels(mosaics_per_slice)):
        raise NamingError(
            f"position {position} in a slice of {mosaics_per_slice} mosaics: expected 1 to "
            f"{mosaics_per_slice}"
        )
    return (slice_ - 1) * mosaics_per_slice + position


def mosaics_of_slice(slice_: int, mosaics_per_slice: int = 2) -> tuple[int, ...]:
    """All mosaics of a slice."""
    return tuple(
        mosaic_of_slice(slice_, position, mosaics_per_slice)
        for position in range(1, mosaics_per_slice + 1)
    )


def acquisition_of_mosaic(mosaic: int, mosaics_per_slice: int = 2) -> str:
    """Label of a mosaic: ``normal``, ``tilted`` (or ``tiltPos``, ``tiltNeg``)."""
    return acquisition_labels(mosaics_per_slice)[slice_of_mosaic(mosaic, mosaics_per_slice)[1] - 1]


def offset_mosaic(mosaic: int, slice_offset: int, mosaics_per_slice: int = 2) -> int:
    """Mosaic of the project for a mosaic number of the source."""
    slice_, position = slice_of_mosaic(mosaic, mosaics_per_slice)
    if slice_ + slice_offset < 1:
        raise NamingError(
            f"mosaic {mosaic} is slice {slice_}; slice_offset {slice_offset} makes that slice "
            f"{slice_ + slice_offset}, expected 1 or more"
        )
    return mosaic_of_slice(slice_ + slice_offset, position, mosaics_per_slice)


def batch_of_image(image: int, grid_size_y: int) -> int:
    """Batch (column) of a tile."""
    _at_least_one(image=image, grid_size_y=grid_size_y)
    return (image - 1) // grid_size_y + 1


def images_of_batch(batch: int, grid_size_y: int) -> range:
    """Tiles of a batch."""
    _at_least_one(batch=batch, grid_size_y=grid_size_y)
    return range((batch - 1) * grid_size_y + 1, batch * grid_size_y + 1)


def parse_mosaic_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Parse ``first:last[,first:last]``; both ends are included."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", part)
        if not match:
            raise NamingError(f"mosaic range {part.strip()!r}: expected first:last, such as 1:40")
        first, last = int(match[1]), int(match[2])
        if not 1 <= first <= last:
            raise NamingError(f"mosaic range {first}:{last}: expected 1 <= first <= last")
        ranges.append((first, last))
    return tuple(ranges)


# ------------------------------------------------------------------------------------- tiles
def tile_stem(mosaic: int, image: int) -> str:
    """Stem of everything made from one tile, such as ``mosaic_001_image_0003``."""
    _at_least_one(mosaic=mosaic, image=image)
    return f"mosaic_{mosaic:03d}_image_{image:04d}"


def tile_product_name(mosaic: int, image: int, modality: str) -> str:
    """Name of a tile's product; modality as in ``complex``, ``dBI``, ``aip``, ``surf``."""
    return f"{tile_stem(mosaic, image)}_{modality}.nii"


_TILE_PRODUCT = re.compile(r"mosaic_(\d+)_image_(\d+)_([A-Za-z0-9]+)\.nii")


def parse_tile_product(name: str) -> tuple[int, int, str] | None:
    """Mosaic, image and modality of a tile's product; None for other names."""
    match = _TILE_PRODUCT.fullmatch(name)
    return (int(match[1]), int(match[2]), match[3]) if match else None


def mosaic_stem(mosaic: int) -> str:
    """Stem of everything stitched, such as ``mosaic_001``."""
    _at_least_one(mosaic=mosaic)
    return f"mosaic_{mosaic:03d}"


def mosaic_product_name(mosaic: int, modality: str, suffix: str = ".nii") -> str:
    """Name of a stitched image; modality as in ``aip``, ``aip_nomask``, ``mask``."""
    return f"{mosaic_stem(mosaic)}_{modality}{suffix}"


def slice_product_name(slice_: int, product: str) -> str:
    """Name of a product of a registered slice; product as in ``3daxis.nii``."""
    return f"{slice_stem(slice_)}_{product}"


# ------------------------------------------------------------------------------------- flags
def batch_stem(batch: int) -> str:
    """Stem of a batch's flags."""
    _at_least_one(batch=batch)
    return f"batch-{batch:03d}"


def mosaic_folder(mosaic: int) -> str:
    """Folder of a mosaic, and the stem of its flags."""
    _at_least_one(mosaic=mosaic)
    return f"mosaic-{mosaic:02d}"


def slice_stem(slice_: int) -> str:
    """Stem of a slice's flags and products."""
    _at_least_one(slice=slice_)
    return f"slice-{slice_:02d}"


def tilemap_stem(acquisition: str) -> str:
    """Stem of a coordinate template and its flag."""
    return f"tilemap-{_acquisition(acquisition)}"


def focus_stem(acquisition: str) -> str:
    """Stem of a focus plane and its flag."""
    return f"focus-{_acquisition(acquisition)}"


def _acquisition(label: str) -> str:
    if not re.fullmatch(r"[A-Za-z]+", label):
        raise NamingError(f"acquisition {label!r}: expected letters, such as normal")
    return label


# Begins the states of the volumes of a mosaic.
VOLUME = "volume_"


def volume_state(modality: str) -> str:
    """State of the flag of a stitched volume, such as ``volume_dBI``."""
    return f"{VOLUME}{modality}"


def modality_of_state(state: str) -> str | None:
    """Modality of a stitched volume's flag; None for other states."""
    modality = state.removeprefix(VOLUME)
    return modality if state.startswith(VOLUME) and modality in VOLUME_MODALITIES else None


_FLAG = re.compile(r"(?:(batch|mosaic|slice)-(\d+)|(tilemap|focus)-([A-Za-z]+))\.([a-z_A-Z0-9]+)")


@dataclass(frozen=True)
class FlagName:
    """A flag's level, the id (or acquisition) in its name, and its state."""

    level: str
    id: int | str
    state: str

    def __str__(self) -> str:
        if self.level == "tilemap":
            return f"{tilemap_stem(str(self.id))}.{self.state}"
        if self.level == "focus":
            return f"{focus_stem(str(self.id))}.{self.state}"
        stems = {"batch": batch_stem, "mosaic": mosaic_folder, "slice": slice_stem}
        return f"{stems[self.level](int(self.id))}.{self.state}"


def parse_flag(name: str) -> FlagName | None:
    """Parse the name of a flag, whatever its padding; None for other names."""
    match = _FLAG.fullmatch(name)
    if not match:
        return None
    if match[3]:
        return FlagName(match[3], match[4], match[5])
    return FlagName(match[1], int(match[2]), match[5])


def parse_mosaic_folder(name: str) -> int | None:
    """Mosaic of a folder name, whatever its padding; None for other names."""
    match = re.fullmatch(r"mosaic-(\d+)", name)
    return int(match[1]) if match else None
