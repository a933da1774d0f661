"""Section ``archive``: where raw files are kept for good."""

from pathlib import Path

from pydantic import Field, field_validator

from opticstream_smk.config.section import Section
from opticstream_smk.naming.archive import check_template


class ArchiveSection(Section):
    """Compressed, verified copies of the raw files."""

    dir: Path | None = Field(
        default=None,
        description="Folder, best on a disk of its own, for a compressed and verified copy of "
        "every raw file. Null: no archive.",
    )
    complex: bool = Field(
        default=False,
        description="Archive the complex tiles that the host saves beside spectra too. Without "
        "spectra they are archived in any case.",
    )
    name: str = Field(
        default="{project_name}_sample-slice{slice_id:02d}_chunk-{tile_id:04d}_acq-{acq}_OCT.nii.gz",
        description="Names below `dir`, with any of {project_name} {subject} {slice_id} "
        "{mosaic_id} {tile_id} {acq}; it may have folders.",
    )
    dandiset_name: str = Field(
        default="rawdata/sub-{subject}/"
        "sample-slice-{slice_id:03d}_chunk-{tile_id:04d}_acq-{acq}_OCT.nii.gz",
        description="Names of the links in `project.dandiset_dir`, likewise.",
    )

    @field_validator("name", "dandiset_name")
    @classmethod
    def _template_works(cls, value: str) -> str:
        check_template(value)
        return value
