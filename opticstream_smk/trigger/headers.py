"""What the header of an image file says, as plain values; nothing where there is none to read."""

import functools
import gzip
import importlib
import logging
from pathlib import Path
from typing import IO, Any, cast

log = logging.getLogger(__name__)

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz")
NIFTI_SUFFIXES = (".nii", ".nii.gz")

FITS_BLOCK_BYTES = 2880  # FITS 4.0, section 3.1: everything comes in blocks of 36 cards x 80 bytes
FITS_CARD_BYTES = 80
# 1,000 blocks are 36,000 cards; real headers have hundreds. A file that was allocated and not
# written yet has no END card, and would be read to its last byte in search of one.
FITS_LONGEST_HEADER_BYTES = 1000 * FITS_BLOCK_BYTES
_GZIP_MAGIC = b"\x1f\x8b"


def read_header(path: Path) -> dict[str, Any]:
    """Header of a file by the kind that its name says it is.

    Parameters
    ----------
    path
        FITS: the primary header, without COMMENT and HISTORY, strings stripped, undefined values
        None. NIfTI: the fields of the header. Any other file has none.

    Returns
    -------
    dict
        Keyword to str, bool, int, float, complex, None, or (NIfTI) lists of these. Empty when the
        file has no header that could be read; the reason is logged, nothing is raised.
    """
    name = path.name.lower()
    if name.endswith(FITS_SUFFIXES):
        read = _fits_header
    elif name.endswith(NIFTI_SUFFIXES):
        read = _nifti_header
    else:
        return {}
    if not prepare(path):
        return {}
    try:
        return read(path)
    except Exception as error:  # noqa: BLE001  # a broken file makes the readers raise anything
        reason = str(error).strip() or type(error).__name__
        log.warning("header of %s cannot be read (%s); it is reported without one", path, reason)
        return {}


def prepare(path: Path) -> bool:
    """Import what reads the header of a file; the first time this takes a second.

    Returns
    -------
    bool
        Whether its header can be read.
    """
    name = path.name.lower()
    if name.endswith(FITS_SUFFIXES):
        return _fits() is not None
    if name.endswith(NIFTI_SUFFIXES):
        import nibabel  # noqa: F401
    return True


@functools.cache  # asked for each file, said once
def _fits() -> Any:
    """The module ``astropy.io.fits``; None when it is not installed."""
    try:
        return importlib.import_module("astropy.io.fits")
    except Exception as error:  # noqa: BLE001  # a broken installation raises anything, too
        log.warning(
            "headers of FITS files are not read, every header is {}: %s. "
            "pip install 'opticstream-smk[fits]' and start again.",
            error,
        )
        return None


def _fits_header(path: Path) -> dict[str, Any]:
    fits = _fits()
    with _open(path) as stream:
        cards = _fits_cards(stream)
    header: dict[str, Any] = {}
    for card in fits.Header.fromstring(cards).cards:
        keyword, value = card.keyword, card.value
        if keyword in ("COMMENT", "HISTORY", "", "END"):
            continue
        if isinstance(value, fits.card.Undefined):
            value = None
        header[keyword] = value.strip() if isinstance(value, str) else value
    return header


def _fits_cards(stream: IO[bytes]) -> bytes:
    """Bytes of the primary header, up to its END card."""
    cards = b""
    while len(cards) < FITS_LONGEST_HEADER_BYTES:
        block = stream.read(FITS_BLOCK_BYTES)
        cards += block
        if not cards.startswith(b"SIMPLE  ="):
            raise ValueError("it does not begin with SIMPLE, as a FITS file does")
        for start in range(0, len(block), FITS_CARD_BYTES):
            if block[start : start + FITS_CARD_BYTES].rstrip() == b"END":
                return cards
        if len(block) < FITS_BLOCK_BYTES:
            raise ValueError(f"it ends after {len(cards)} bytes, before the END of its header")
    raise ValueError(f"there is no END of the header in the first {len(cards)} bytes")


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _nifti_header(path: Path) -> dict[str, Any]:
    import nibabel

    header = nibabel.load(path).header
    return {key: _plain(header[key].tolist()) for key in header}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.split(b"\0")[0].decode("latin-1").strip()
    return value.strip() if isinstance(value, str) else value
