"""Compile what the tile stages run, so that the first of them need not.

python -m opticstream_smk.psoct.warm_up
"""

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.calibration import Calibration
from opticstream_smk.psoct.engine import ComplexEngine, TileEngine, VolumeBlock
from opticstream_smk.psoct.raw import unpack12
from opticstream_smk.psoct.settings import TileSettings

ALINES, BLINES, SAMPLES = 4, 2, 128


class _Given:
    """B-lines that are there."""

    def __init__(self, values: NDArray[np.generic]) -> None:
        self._values = values

    def buffer(self, _rows: int) -> NDArray[np.generic]:
        return self._values

    def read(self, _start: int, _stop: int, buffer: NDArray[np.generic]) -> NDArray[np.generic]:
        return buffer


def warm_up() -> None:
    """Process a tiny tile in each way."""
    shape = (BLINES, 2, ALINES, SAMPLES)
    camera = np.array([[1.0, 1.0], [SAMPLES, SAMPLES]])
    calibration = Calibration(camera, np.array([1250.0, 1350.0]))
    counts = np.ones(shape, np.uint16)
    unpack12(np.zeros(6, np.uint8), np.empty(4, np.uint16))
    stacks: list[NDArray[np.float32]] = []
    complex_engine = ComplexEngine(calibration, shape)
    complex_engine.run(_Given(counts), lambda _start, _stop, stack: stacks.append(stack))

    def forget(_start: int, _stop: int, _volumes: VolumeBlock) -> None:
        pass

    settings = TileSettings(depth_px=10)
    TileEngine.of_spectra(calibration, shape, settings).run(_Given(counts), forget)
    depth = stacks[0].shape[0]
    TileEngine.of_stacks((4 * ALINES, BLINES, depth), settings).run(_Given(stacks[0]), forget)


if __name__ == "__main__":
    warm_up()
