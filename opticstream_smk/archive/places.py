"""Which raw files of a tile are archived, and under which names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.naming.archive import archive_name, manifest_name, with_kind
from opticstream_smk.state.flags import InputFile


@dataclass(frozen=True)
class ArchivePlace:
    """Where one raw file is kept.

    Attributes
    ----------
    mosaic
        Mosaic in its name; the first of those whose tiles the file holds.
    name
        Path below the archive.
    dandiset_name
        Path of the link below the dandiset.
    """

    mosaic: int
    image: int
    modality: str
    name: PurePosixPath
    dandiset_name: PurePosixPath


def files_to_archive(
    config: Config, mosaic: int, image: int, files: Mapping[str, InputFile]
) -> list[tuple[ArchivePlace, InputFile]]:
    """The raw files of a tile that are archived: its spectra, else its complex tile, or both.

    Parameters
    ----------
    files
        By modality, as ``.ready`` lists them.

    Raises
    ------
    IncompleteInputError
        It has neither.
    """
    kinds = [kind for kind in ("spectral", "complex") if kind in files]
    if not kinds:
        raise IncompleteInputError(
            f"image {image:04d} of mosaic {mosaic:03d} has neither a spectral nor a complex file "
            f"({', '.join(Path(file.path).name for file in files.values())}), so there is nothing "
            "to archive of it. Bring its spectral file, then run `optic-trigger scan`; or set "
            "archive.dir: null."
        )
    if not config.archive.complex:
        kinds = kinds[:1]
    return [(place_of(config, mosaic, image, kind, files[kind]), files[kind]) for kind in kinds]


def owner(config: Config, mosaic: int) -> int:
    """Mosaic in the names of the raw files of a mosaic: one file may hold tiles of three."""
    return shared_mosaics(config, mosaic)[0]


def shared_mosaics(config: Config, mosaic: int) -> tuple[int, ...]:
    """Mosaics whose tiles come from the same raw files."""
    per_slice = config.acquisition.mosaics_per_slice
    if config.acquisition.illuminations == 1:
        return (mosaic,)
    return naming.mosaics_of_slice(naming.slice_of_mosaic(mosaic, per_slice)[0], per_slice)


def manifest_path(config: Config, folder: Path, mosaic: int) -> Path:
    """List of the archived files of a mosaic."""
    per_slice = config.acquisition.mosaics_per_slice
    first = owner(config, mosaic)
    slice_, _ = naming.slice_of_mosaic(first, per_slice)
    label = naming.acquisition_of_mosaic(first, per_slice)
    return folder / manifest_name(config.project.name, slice_, label)


def place_of(
    config: Config, mosaic: int, image: int, modality: str, file: InputFile
) -> ArchivePlace:
    """Where a raw file of a tile is kept, by today's names."""
    per_slice = config.acquisition.mosaics_per_slice
    first = owner(config, mosaic)
    values = {
        "project_name": config.project.name,
        "subject": config.project.subject_label,
        "slice_id": naming.slice_of_mosaic(first, per_slice)[0],
        "mosaic_id": first,
        "tile_id": image,
        "acq": naming.acquisition_of_mosaic(first, per_slice),
    }
    # Beside spectra a complex tile says what it is; alone it is the raw file of its tile.
    told = modality != "spectral" and config.acquisition.tile_saving_type != modality
    name, dandiset_name = (
        with_kind(
            archive_name(template, **values), Path(file.path).suffix, modality if told else None
        )
        for template in (config.archive.name, config.archive.dandiset_name)
    )
    return ArchivePlace(first, image, modality, name, dandiset_name)
