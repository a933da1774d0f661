"""A project with a stitched mosaic of random tile volumes, and what its volume should hold."""

import numpy as np
import zarr

from opticstream_smk.errors import OpticStreamError
from opticstream_smk.io import nifti
from opticstream_smk.mosaic import blend, canvas_shape
from opticstream_smk.plan import project_layout
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.stage import run_stage
from opticstream_smk.stages.tilemap import Tilemap, cells, read_tilemap, write_tilemap
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.places import focus_place, mosaic_place
from tests.history import History

ROWS, COLUMNS = 2, 3
SIZE_Y, SIZE_X, DEPTH = 36, 40, 44
OVERLAP = 25
SCAN = {
    "acquisition__grid_size_x_normal": COLUMNS,
    "acquisition__grid_size_x_tilted": COLUMNS,
    "acquisition__grid_size_y": ROWS,
    "acquisition__tile_size_x_normal": SIZE_X,
    "acquisition__tile_size_x_tilted": SIZE_X,
    "acquisition__tile_size_y": SIZE_Y,
    "acquisition__samples_per_aline": 2 * (DEPTH + 24),
    "acquisition__tile_overlap_percent": OVERLAP,
}
VOLUME = {
    "volume__enabled": True,
    "volume__depth_px": 30,
    "volume__offset_px": 3,
    "volume__chunk": [8],
    "volume__shard": [32],
    "volume__focus_crop_x_px": 2,
}


def field_plane():
    """The bend of every tile, depth samples, minimum 0."""
    y, x = np.mgrid[:SIZE_Y, :SIZE_X]
    plane = 0.08 * x + 0.004 * (y - 15.0) ** 2
    return plane - plane.min()


class _Flags(History):
    """Flags that speak for no files, so that the doctor has nothing to say about them."""

    def _outputs(self, *_):
        return iter(())


class VolumeProject:
    """Flags, template, mask and tiles of mosaic 1 (normal) or 2 (tilted) of slice 1."""

    def __init__(self, config, mosaic=1, *, missing=(), seed=0, surface_last=False):
        self.config, self.mosaic, self.missing = config, mosaic, frozenset(missing)
        self.layout = project_layout(config)
        self.acquisition = config.acquisition.labels[mosaic - 1]
        self.surface_last = surface_last
        self.rng = np.random.default_rng(seed)
        self.images = range(1, ROWS * COLUMNS + 1)
        step = np.array([SIZE_Y, SIZE_X]) * (1 - OVERLAP / 100)
        jitter = self.rng.uniform(-1.4, 1.4, (len(self.images), 2))
        self.positions = cells(config, self.acquisition) * step + jitter + (100, 200)
        self.volumes = {name: self._volumes(name) for name in ("dBI", "O3D")}
        self.mask = self._mask()
        self._write()

    def _volumes(self, modality):
        shape = (len(self.images), DEPTH, SIZE_Y, SIZE_X)
        if modality == "O3D":
            return self.rng.uniform(-90, 90, shape).astype(np.float32)
        return self.rng.normal(60, 9, shape).astype(np.float32)

    def _mask(self):
        (height, width), _ = canvas_shape(self.positions, (SIZE_Y, SIZE_X))
        y, x = np.mgrid[:height, :width]
        return (y - height / 2) ** 2 + (x - width / 2) ** 2 < (0.45 * height) ** 2

    @property
    def place(self):
        return mosaic_place(self.mosaic)

    def _write(self):
        signal = np.full(len(self.images), 65.0)
        self.set_template(self.positions, signal)
        for image in self.images:
            for modality, volumes in self.volumes.items():
                self.write_tile(image, modality, volumes[image - 1])
        self.write_surfaces()
        history = _Flags(self.config)
        order = "raw" if self.surface_last else "flipped"
        z_order = {"z_order": order, "marked_by_hand": True}
        for batch in history.plan.batches(self.mosaic):
            for state in ("ready", "complex", "processed"):
                place = history.place(self.mosaic, batch)
                history.write(place, state, missing=self.missing, extra=z_order)
        history.solve(self.mosaic)
        self.layout.focus_flag(self.acquisition).unlink(missing_ok=True)
        sha256 = read_tilemap(self.config, self.layout, self.acquisition).sha256
        extra = {"template_sha256": sha256}
        history.write(self.place, "stitched", missing=self.missing, extra=extra)
        origin = canvas_shape(self.positions, (SIZE_Y, SIZE_X))[1]
        geometry = nifti.Geometry((0.01, 0.01, 0.5), (origin[1] * 0.01, origin[0] * 0.01, 0.0))
        pixels = np.where(self.mask, np.uint8(255), np.uint8(0))
        nifti.write_image(self.layout.stitched(self.mosaic, "mask"), pixels, geometry)

    def set_template(self, positions, signal):
        shape = (SIZE_Y, SIZE_X)
        tilemap = Tilemap(positions, np.ones(len(positions), bool), shape, signal)
        self.layout.root.mkdir(parents=True, exist_ok=True)
        write_tilemap(self.config, self.layout.template(self.acquisition), tilemap)

    def write_tile(self, image, modality, volume):
        if image in self.missing:
            return
        values = volume[::-1] if self.surface_last else volume
        path = self.layout.processed_tile(self.mosaic, image, modality)
        nifti.write_array(
            path, np.ascontiguousarray(values.T), nifti.Geometry((0.01, 0.01, 0.0025))
        )

    def write_surfaces(self):
        """The sample's own surface, and the bend of each tile; 1-based."""
        corners = self.positions - self.positions.min(axis=0)
        y, x = np.mgrid[:SIZE_Y, :SIZE_X]
        for image, (top, left) in zip(self.images, corners, strict=True):
            if image in self.missing:
                continue
            surface = 12 + 3 * np.sin((y + top) / 30) + 2 * np.cos((x + left) / 25) + field_plane()
            noisy = np.rint(surface + self.rng.normal(0, 0.4, surface.shape))
            stored = DEPTH + 1 - noisy if self.surface_last else noisy
            path = self.layout.processed_tile(self.mosaic, image, "surf")
            nifti.write_image(path, stored, nifti.Geometry((0.01, 0.01, 0.5)))

    # ----------------------------------------------------------------------------------- runs
    def fit(self, **options):
        """Run fit_focus; returns the flag."""
        place = focus_place(self.acquisition)
        return run_stage(find_stage("fit_focus"), self.config, place, **options)

    def stitch(self, modality="dBI", **options):
        """Run stitch_volume; returns the flag."""
        stage = find_stage("stitch_volume", modality=modality)
        return run_stage(stage, self.config, self.place, **options)

    def finish(self):
        return run_stage(find_stage("stitch_volume"), self.config, self.place)

    def failed(self, run, *arguments):
        """The error of a run that must fail, and the record of it."""
        try:
            run(*arguments)
        except OpticStreamError as error:
            return error, read_flag(self.layout.mosaic_flag(self.mosaic, "failed"))
        raise AssertionError("it did not fail")

    def flag(self, state):
        return read_flag(self.layout.mosaic_flag(self.mosaic, state))

    def read(self, modality="dBI", level=0):
        group = zarr.open_group(str(self.layout.volume(self.mosaic, modality)), mode="r")
        return np.asarray(group[str(level)])

    def metadata(self, modality="dBI"):
        return zarr.open_group(str(self.layout.volume(self.mosaic, modality))).attrs["ome"]

    def plane(self):
        return nifti.read_image(self.layout.focus_plane(self.acquisition))

    def expected(self, modality="dBI", *, plane=None, mask=True):
        """Every depth blended as an image."""
        volume = self.config.volume
        shift = np.full((SIZE_Y, SIZE_X), volume.offset_px)
        if plane is not None:
            shift = shift + np.rint(plane - plane.min()).astype(int)
        y, x = np.mgrid[:SIZE_Y, :SIZE_X]
        planes = []
        for depth in range(volume.depth_px):
            z = shift + depth
            images = [
                np.where(z < DEPTH, tile[np.minimum(z, DEPTH - 1), y, x], np.nan)
                if image not in self.missing
                else np.full((SIZE_Y, SIZE_X), np.nan)
                for image, tile in zip(self.images, self.volumes[modality], strict=True)
            ]
            blended, _ = blend(
                images, self.positions, overlap_percent=OVERLAP, circular=modality == "O3D"
            )
            seen = np.isfinite(blended) & (self.mask if mask else True)
            planes.append(np.where(seen, blended, volume.fill_value))
        return np.stack(planes)
