"""A tile of which every quality number is known."""

import numpy as np

NOISE_DB = 50.0
SNR_DB = 12.0


def tile(shape=(40, 30, 300), *, surface=120, snr_db=SNR_DB, seed=1) -> dict[str, np.ndarray]:
    """Products of a tile with a flat surface (1-based): medium of 50 dB, tissue `snr_db` above.

    dBI is exact, without speckle; O3D scatters normally by 10 degrees about 30.
    """
    rng = np.random.default_rng(seed)
    x, y = shape[:2]
    dbi = np.full(shape, NOISE_DB, np.float32, order="F")
    dbi[:, :, surface - 1 :] = NOISE_DB + snr_db
    o3d = rng.normal(30, 10, shape).astype(np.float32)
    r3d = rng.uniform(0, 90, shape).astype(np.float32)
    en_face = {
        name: rng.uniform(low, high, (x, y)).astype(np.float32)
        for name, low, high in (
            ("aip", 55, 65),
            ("mip", 65, 75),
            ("ret", 10, 40),
            ("ori", -89, 90),
            ("biref", -1e-4, 1e-3),
        )
    }
    surf = np.full((x, y), float(surface))
    surf[0, :2] += 1  # a surface that is the same everywhere would be a fault
    return {"dBI": dbi, "R3D": r3d, "O3D": np.asfortranarray(o3d), "surf": surf, **en_face}
