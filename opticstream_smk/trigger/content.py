"""What a raw file says about itself: the size in its header, the checksum beside it."""

import re
import struct
from pathlib import Path

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.state.flags import InputFile
from opticstream_smk.trigger.batches import RawFile


def check_content(file: RawFile) -> InputFile:
    """Look into a raw file before its batch is entered.

    Spectral and complex tiles have the size that the configuration gives, which was checked when
    they were listed. A map must be as long as its own header says. A checksum beside a file
    (``NAME.sha256``) is taken along; the stage that reads the file compares it.

    Raises
    ------
    CorruptInputError
        Too short for its header, or no NIfTI file; or the checksum file holds none.
    """
    entry = file.as_input()
    if file.modality not in ("spectral", "complex"):
        _check_nifti_size(file)
    sidecar = file.path.with_name(f"{file.path.name}.sha256")
    try:
        text = sidecar.read_text(errors="replace")
    except FileNotFoundError:
        return entry
    except OSError as error:
        raise CorruptInputError(
            f"checksum {sidecar} cannot be read ({error.strerror}); correct its permissions"
        ) from error
    found = re.match(r"\s*([0-9a-fA-F]{64})\b", text)
    if found is None:
        raise CorruptInputError(
            f"checksum {sidecar} holds no SHA-256 (64 hexadecimal digits); it may still be being "
            "written, else remove it"
        )
    return entry.model_copy(update={"sha256": found[1].lower()})


def _check_nifti_size(file: RawFile) -> None:
    expected = nifti_bytes(file.path)
    if file.size < expected:
        raise CorruptInputError(
            f"{file.path} has {file.size} bytes, its header asks for {expected}: truncated or "
            "still being written. Wait for it or restore it."
        )


def nifti_bytes(path: Path) -> int:
    """Bytes that an uncompressed NIfTI-1 file must have: offset of the data and the data.

    Raises
    ------
    CorruptInputError
        The file has no NIfTI-1 header.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(348)
    except OSError as error:
        raise CorruptInputError(
            f"{path} cannot be read ({error.strerror}); correct its permissions"
        ) from error
    for order in "<>":
        # Fields of the NIfTI-1 header: sizeof_hdr at 0, dim at 40, bitpix at 72, vox_offset at 108.
        if len(header) == 348 and struct.unpack_from(f"{order}i", header)[0] == 348:
            rank, *sizes = struct.unpack_from(f"{order}8h", header, 40)
            (bits,) = struct.unpack_from(f"{order}h", header, 72)
            (offset,) = struct.unpack_from(f"{order}f", header, 108)
            voxels: int = 1
            for size in sizes[: max(0, min(rank, 7))]:
                voxels *= max(size, 1)
            return int(offset) + voxels * int(bits) // 8
    raise CorruptInputError(
        f"{path} has no NIfTI-1 header; it is truncated or another kind of file"
    )
