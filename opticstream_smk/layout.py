"""Paths in a project folder: the only place where they are built."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.naming import lsm

# Beginning of the names of folders beside processed tiles that other programs write into.
MATLAB_FOLDER = ".matlab-"
FIJI_FOLDER = ".fiji-"


@dataclass(frozen=True)
class ProjectLayout:
    """The folder of a project.

    Attributes
    ----------
    root
        Absolute path of the project folder. Flags record paths relative to it.
    """

    root: Path

    # -------------------------------------------------------------------------------- project
    @property
    def state(self) -> Path:
        """Flags of slices and templates."""
        return self.root / "state"

    @property
    def events(self) -> Path:
        """Event logs, one per host."""
        return self.state / "events"

    @property
    def withdrawn(self) -> Path:
        """Flags that were withdrawn, by time."""
        return self.state / "withdrawn"

    @property
    def registered(self) -> Path:
        """Products of registered slices."""
        return self.root / "registered"

    @property
    def report(self) -> Path:
        """Pictures and pages for people."""
        return self.root / "report"

    def template(self, acquisition: str) -> Path:
        """Coordinate template of an acquisition."""
        return self.root / f"{naming.tilemap_stem(acquisition)}.j2"

    def template_edges(self, acquisition: str) -> Path:
        """What the overlaps said that a coordinate template was solved from."""
        return self.root / f"{naming.tilemap_stem(acquisition)}_edges.tsv"

    def focus_plane(self, acquisition: str) -> Path:
        """Focus plane of an acquisition."""
        return self.root / f"{naming.focus_stem(acquisition)}.nii"

    # -------------------------------------------------------------------------------- mosaics
    def mosaic(self, mosaic: int) -> Path:
        """Folder of a mosaic."""
        return self.root / naming.mosaic_folder(mosaic)

    def mosaic_state(self, mosaic: int) -> Path:
        """Flags of a mosaic and its batches."""
        return self.mosaic(mosaic) / "state"

    def mosaics(self) -> list[int]:
        """Mosaics that have a folder, in order."""
        try:
            with os.scandir(self.root) as entries:
                return sorted(
                    number
                    for entry in entries
                    if (number := naming.parse_mosaic_folder(entry.name)) and entry.is_dir()
                )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def complex_tile(self, mosaic: int, image: int) -> Path:
        """Complex tile."""
        name = naming.tile_product_name(mosaic, image, "complex")
        return self.mosaic(mosaic) / "complex" / name

    def processed_tile(self, mosaic: int, image: int, modality: str) -> Path:
        """Volume or en-face map of a tile."""
        name = naming.tile_product_name(mosaic, image, modality)
        return self.mosaic(mosaic) / "processed" / name

    def archived(self, mosaic: int, name: str = "") -> Path:
        """Folder of the links to archived raw files, or one of them."""
        return self.mosaic(mosaic) / "archived" / name

    def receipts(self, mosaic: int, kind: str) -> Path:
        """Receipts of the tiles of a mosaic; see :meth:`receipt`."""
        return self.mosaic(mosaic) / kind / ".receipts"

    def receipt(self, mosaic: int, image: int, kind: str) -> Path:
        """Receipt of a tile; ``kind`` is ``complex``, ``processed`` or ``archived``."""
        return self.receipts(mosaic, kind) / f"{naming.tile_stem(mosaic, image)}.json"

    def stitched(self, mosaic: int, modality: str, suffix: str = ".nii") -> Path:
        """Stitched image; modality as in ``aip``, ``aip_nomask``, ``mask``."""
        return (
            self.mosaic(mosaic) / "stitched" / naming.mosaic_product_name(mosaic, modality, suffix)
        )

    def mosaic_template(self, mosaic: int) -> Path:
        """Coordinate template of a mosaic that does not lie as that of its acquisition says."""
        return self.mosaic(mosaic) / "tilemap.j2"

    def mosaic_edges(self, mosaic: int) -> Path:
        """What the overlaps of a mosaic say about its coordinates."""
        return self.stitched(mosaic, "edges", ".tsv")

    def volume(self, mosaic: int, modality: str) -> Path:
        """Stitched volume; modality as in ``dBI``."""
        return self.stitched(mosaic, modality, ".ome.zarr")

    def registered_product(self, slice_: int, product: str) -> Path:
        """Product of a registered slice; product as in ``3daxis.nii``."""
        return self.registered / naming.slice_product_name(slice_, product)

    # ---------------------------------------------------------------------------------- flags
    def batch_flag(self, mosaic: int, batch: int, state: str) -> Path:
        """Flag of a batch."""
        return self.mosaic_state(mosaic) / f"{naming.batch_stem(batch)}.{state}"

    def mosaic_flag(self, mosaic: int, state: str) -> Path:
        """Flag of a mosaic."""
        return self.mosaic_state(mosaic) / f"{naming.mosaic_folder(mosaic)}.{state}"

    def slice_flag(self, slice_: int, state: str) -> Path:
        """Flag of a slice."""
        return self.state / f"{naming.slice_stem(slice_)}.{state}"

    def tilemap_flag(self, acquisition: str, state: str = "solved") -> Path:
        """Flag of a coordinate template."""
        return self.state / f"{naming.tilemap_stem(acquisition)}.{state}"

    def focus_flag(self, acquisition: str, state: str = "fitted") -> Path:
        """Flag of a focus plane."""
        return self.state / f"{naming.focus_stem(acquisition)}.{state}"

    def lock(self, flag: Path) -> Path:
        """Lock that the stage which writes a flag holds."""
        return flag.parent / ".locks" / f"{flag.name}.lock"

    @property
    def project_lock(self) -> Path:
        """Lock under which flags are added and withdrawn."""
        return self.state / ".locks" / "project.lock"

    # -------------------------------------------------------------------------------- archive
    @property
    def archives(self) -> Path:
        """Which archives a project has used: what to expect where the disk should be."""
        return self.control / "archives.json"

    @property
    def archives_lock(self) -> Path:
        """Lock under which an archive is first used."""
        return self.state / ".locks" / "archives.lock"

    def manifest_lock(self, mosaic: int) -> Path:
        """Lock under which the list of a mosaic's archived files is written."""
        return self.mosaic_state(mosaic) / ".locks" / "manifest.lock"

    def shared_archive_lock(self, mosaic: int, batch: int) -> Path:
        """Lock of raw files that hold tiles of several mosaics; the first of them is named."""
        name = f"{naming.batch_stem(batch)}.raw.lock"
        return self.mosaic_state(mosaic) / ".locks" / name

    # -------------------------------------------------------------------------------- watcher
    @property
    def control(self) -> Path:
        """What operators and watcher tell each other."""
        return self.state / "control"

    @property
    def watcher_lock(self) -> Path:
        """Lock that the one watcher of a project holds."""
        return self.state / ".locks" / "watcher.lock"

    @property
    def logs(self) -> Path:
        """Logs of stages, one folder for each, of drivers and of the watcher."""
        return self.root / "logs"

    @property
    def watcher_log(self) -> Path:
        """What the watcher of a project says."""
        return self.logs / "watcher.log"

    @property
    def drivers(self) -> Path:
        """Records of the watcher's snakemake runs."""
        return self.control / "drivers"

    def driver_record(self, driver: str) -> Path:
        """What a snakemake run of the watcher was asked for, and how it ended."""
        return self.drivers / f"{driver}.json"

    def driver_lock(self, driver: str) -> Path:
        """Lock that a snakemake run of the watcher holds as long as it lives."""
        return self.state / ".locks" / f"driver-{driver}.lock"

    def driver_log(self, driver: str) -> Path:
        """What a snakemake run of the watcher says."""
        return self.logs / "drivers" / f"{driver}.log"

    @property
    def preflight_picture(self) -> Path:
        """The first tile as ``preflight`` saw it."""
        return self.report / "preflight.jpg"

    # ------------------------------------------------------------------------------- pictures
    def batch_picture(self, mosaic: int, batch: int) -> Path:
        """Contact sheet of a batch."""
        name = f"{naming.mosaic_folder(mosaic)}_{naming.batch_stem(batch)}.jpg"
        return self.report / name

    def mosaic_picture(self, mosaic: int) -> Path:
        """Overview of a stitched mosaic."""
        return self.report / f"{naming.mosaic_folder(mosaic)}.jpg"

    def coordinates_picture(self, mosaic: int) -> Path:
        """How well the tiles of a stitched mosaic fit where they lie."""
        return self.report / f"{naming.mosaic_folder(mosaic)}_coordinates.jpg"

    def slice_picture(self, slice_: int) -> Path:
        """Overview of a registered slice."""
        return self.report / f"{naming.slice_stem(slice_)}.jpg"

    def focus_picture(self, acquisition: str) -> Path:
        """Focus plane and surfaces drawn on intensity."""
        return self.report / f"{naming.focus_stem(acquisition)}.jpg"

    def relative(self, path: Path) -> str:
        """Path of a product as flags record it; outside the project folder it stays absolute."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return str(path)

    # ----------------------------------------------------------------------------- light sheet
    def channel(self, slice_: int, channel: int) -> Path:
        """Folder of a channel (camera) of a light-sheet slice."""
        return self.root / naming.slice_stem(slice_) / lsm.channel_stem(channel)

    def channel_state(self, slice_: int, channel: int) -> Path:
        """Flags of a channel and its strips."""
        return self.channel(slice_, channel) / "state"

    def channel_flag(self, slice_: int, channel: int, state: str) -> Path:
        """Flag of a channel."""
        return self.channel_state(slice_, channel) / f"{lsm.channel_stem(channel)}.{state}"

    def strip_flag(self, slice_: int, channel: int, strip: int, state: str) -> Path:
        """Flag of a strip."""
        return self.channel_state(slice_, channel) / f"{lsm.strip_stem(strip)}.{state}"

    def channels(self) -> list[tuple[int, int]]:
        """Slice and channel of every channel that has a folder, in order."""
        return sorted(
            {
                (slice_, channel)
                for slice_, folder in _numbered(self.root, lsm.parse_slice_folder)
                for channel, _ in _numbered(folder, lsm.parse_channel_folder)
            }
        )


def _numbered(folder: Path, parse: Callable[[str], int | None]) -> Iterator[tuple[int, Path]]:
    """Numbers and paths of the folders in a folder whose names have a number."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                number = parse(entry.name)
                if number and entry.is_dir():
                    yield number, Path(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return
