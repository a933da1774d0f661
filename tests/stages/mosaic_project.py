"""A project whose tiles are processed: phantoms of one stage, other tissue in each slice."""

from dataclasses import replace

import numpy as np

from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.stage import run_stage
from opticstream_smk.stages.tile_positions import mosaic_files
from opticstream_smk.stages.tilemap import read_tilemap, solved_tilemap
from opticstream_smk.state.places import mosaic_place, tilemap_place
from tests.history import History
from tests.mosaic.phantom import make_phantom

SIDE = 96
# One stage for all slices, which comes back to its places to 0.2 px; other tissue in each.
STAGE = {"stage_seed": 3, "repeatability_px": 0.2, "jitter_px": 1.5, "looks": 1000}


def phantom_of(slice_, **options):
    return make_phantom(4, 4, (SIDE, SIDE), 25, seed=slice_, **{**STAGE, **options})


GRID = {
    "acquisition__grid_size_x_normal": 4,
    "acquisition__grid_size_y": 4,
    "acquisition__tile_size_x_normal": SIDE,
    "acquisition__tile_size_y": SIDE,
    "acquisition__tile_overlap_percent": 25,
}


class Project:
    """A project with processed tiles."""

    def __init__(self, config):
        self.config = config
        self.layout = ProjectLayout(config.project.dir)
        self.plan = Plan(config, self.layout)
        self.history = History(config)

    def add(self, mosaic, tiles, missing=()):
        for batch in self.plan.batches(mosaic):
            self.history.enter(mosaic, batch, missing=missing)
        for image, tile in enumerate(tiles, start=1):
            if image not in missing:
                path = self.layout.processed_tile(mosaic, image, "aip")
                path.parent.mkdir(parents=True, exist_ok=True)
                nifti.write_image(path, tile, nifti.Geometry((0.01, 0.01, 0.0025)))

    def solve(self):
        stage = find_stage("solve_coordinates", "tilemap")
        return run_stage(stage, self.config, tilemap_place("normal"), force=True)

    def place(self, mosaic):
        stage = find_stage("solve_coordinates", "mosaic")
        return run_stage(stage, self.config, mosaic_place(mosaic), force=True)

    def positions(self, mosaic):
        return solved_tilemap(self.again, mosaic, ()).positions_px

    def mosaic(self, mosaic):
        return mosaic_place(mosaic)

    def files(self, mosaic):
        return mosaic_files(self.config, self.layout, mosaic, (), "normal")

    def tilemap_at(self, positions_px):
        return replace(self.template, positions_px=positions_px)

    @property
    def again(self):
        return Plan(self.config, self.layout)

    @property
    def template(self):
        return read_tilemap(self.config, self.layout, "normal")


def moved(phantom, image, by_px):
    """The phantom of a stage that slipped at one tile: what it shows there lies elsewhere."""
    tiles = phantom.tiles.copy()
    tiles[image - 1] = np.roll(tiles[image - 1], by_px, axis=(0, 1))
    return tiles
