"""D: CPU seconds of the Fourier transforms of a full tile and nothing else, the unit of tile speed.

700 transforms of a hot (350, 2048) complex64 buffer are the 245,000 A-lines of a tile of 350 x 350
with two channels.

    PYTHONPATH=. python tests/perf/fft_floor.py
"""

import time

import numpy as np
import scipy.fft

ALINES, SAMPLES, CALLS = 350, 2048, 700


def floor_s(repeats: int = 5) -> float:
    """CPU seconds, best of some."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((2, ALINES, SAMPLES), dtype=np.float32)
    spectra = (values[0] + 1j * values[1]).astype(np.complex64)
    buffer = np.empty_like(spectra)
    found = []
    for _ in range(repeats):
        spent = 0.0
        for _ in range(CALLS):
            # Transforms of transforms would overflow.
            buffer[:] = spectra
            start = time.process_time()
            scipy.fft.fft(buffer, axis=1, overwrite_x=True, workers=1)
            spent += time.process_time() - start
        found.append(spent)
    return min(found)


def simd_level() -> str:
    """What NumPy finds in this processor; Numba compiles for all of it."""
    found: dict[str, list[str]] = np.show_config(mode="dicts")["SIMD Extensions"]
    return (
        f"baseline {found['baseline'][-1]}, found {found['found'][-1] if found['found'] else '-'}"
    )


if __name__ == "__main__":
    print(f"SIMD: {simd_level()}")
    print(f"D = {floor_s():.2f} CPU s")
