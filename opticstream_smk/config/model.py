"""The whole configuration."""

from pydantic import Field, model_validator

from opticstream_smk.config.acquisition import AcquisitionSection
from opticstream_smk.config.archive import ArchiveSection
from opticstream_smk.config.lsm import LsmSection
from opticstream_smk.config.matlab import conflicts
from opticstream_smk.config.mosaic import MosaicSection
from opticstream_smk.config.processing import ProcessingSection
from opticstream_smk.config.project import ProjectSection
from opticstream_smk.config.registration import RegistrationSection
from opticstream_smk.config.run import RunSection
from opticstream_smk.config.section import Section
from opticstream_smk.config.volume import VolumeModality, VolumeSection
from opticstream_smk.config.watch import WatchSection
from opticstream_smk.naming.archive import archive_name


class Config(Section):
    """One project, one YAML file."""

    project: ProjectSection = Field(description="What the project is called and where it lies.")
    acquisition: AcquisitionSection = Field(description="Raw data and the geometry of the scan.")
    processing: ProcessingSection = Field(
        default=ProcessingSection(), description="From raw tile to volumes and en-face maps."
    )
    mosaic: MosaicSection = Field(
        default=MosaicSection(), description="Coordinates, stitching, mask."
    )
    volume: VolumeSection = Field(
        default=VolumeSection(), description="Stitched volumes, and the focus plane."
    )
    registration: RegistrationSection = Field(
        default=RegistrationSection(), description="From mosaics to the 3-D axis of a slice."
    )
    lsm: LsmSection = Field(default=LsmSection(), description="Light-sheet strips.")
    archive: ArchiveSection = Field(
        default=ArchiveSection(), description="Compressed, verified copies of the raw files."
    )
    watch: WatchSection = Field(
        default=WatchSection(), description="When raw data counts as complete."
    )
    run: RunSection = Field(default=RunSection(), description="How work is run on this host.")

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        if self.project.pipeline == "lsm":
            return self
        made = {*self.processing.modalities, "surf"}
        missing = [name for name in self.mosaic.modalities if name not in made]
        if missing:
            raise ValueError(
                f"mosaic.modalities asks for {', '.join(missing)}, which processing.modalities "
                "does not make; add it there or remove it here"
            )
        if "aip" not in self.mosaic.modalities:
            raise ValueError(
                "mosaic.modalities must contain aip: mask and coordinates are made from it"
            )
        for name in ("ori", "biref"):
            if self.registration.enabled and name not in self.mosaic.modalities:
                raise ValueError(
                    f"mosaic.modalities must contain {name}: the registration of slices reads it "
                    "(or set registration.enabled: false)"
                )
        scan = self.acquisition
        moving = self.registration.moving
        if moving is not None and moving not in scan.labels:
            raise ValueError(
                f"registration.moving {moving}: a slice has the mosaics {', '.join(scan.labels)}"
            )
        computes = not scan.complex_is_input and not scan.maps_are_input
        if computes and scan.calibration_file is None and scan.phase_calibration is None:
            raise ValueError(
                "acquisition.calibration_file is not set; spectral tiles need the lab's "
                "wave-pixel.mat (variables mu and wave_prime), or acquisition.phase_calibration"
            )
        if scan.maps_are_input and "mus" in self.processing.modalities:
            raise ValueError("the host does not save mus; remove it from processing.modalities")
        if self.archive.dir is not None and scan.tile_saving_type == "processed":
            raise ValueError(
                f"archive.dir is {self.archive.dir}, but with tile_saving_type processed there are "
                "maps only and no raw files to archive; set archive.dir: null"
            )
        if self.processing.engine != "native" and not scan.maps_are_input:
            refused = list(conflicts(self.processing, scan))
            if refused:
                raise ValueError("; ".join(refused))
        if self.volume_modalities and self.volume.offset_px >= scan.depth_samples:
            raise ValueError(
                f"volume.offset_px {self.volume.offset_px}: tiles have {scan.depth_samples} depth "
                "samples, so that nothing would be left; set less, or volume.enabled: false"
            )
        if self.archive.dir is not None:
            self._check_archive_names()
        return self

    @property
    def volume_modalities(self) -> tuple[VolumeModality, ...]:
        """Volumes that are stitched: none where tiles have no volumes."""
        tiles_have_volumes = (
            self.processing.save_volume_outputs and not self.acquisition.maps_are_input
        )
        return self.volume.modalities if self.volume.enabled and tiles_have_volumes else ()

    @property
    def fits_focus(self) -> bool:
        """Whether volumes are stitched along a focus plane."""
        return self.volume.focus and bool(self.volume_modalities)

    def _check_archive_names(self) -> None:
        """Names with the values of this project, the longest that there can be."""
        values = {
            "project_name": self.project.name,
            "subject": self.project.subject_label,
            "slice_id": 9999,
            "mosaic_id": 9999,
            "tile_id": 999_999,
            "acq": max(self.acquisition.labels, key=len),
        }
        if not values["subject"]:
            raise ValueError(
                f"project.name {self.project.name!r} has neither letters nor digits; set "
                "project.subject"
            )
        for template in (self.archive.name, self.archive.dandiset_name):
            archive_name(template, **values)
