"""Images and views with known truth."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from opticstream_smk.registration import Affine

MARGIN_PX = 60


def random_affine(rng: np.random.Generator, shape: tuple[int, int]) -> Affine:
    """A tilt by 5 to 12 degrees about y, a turn, a little shear, and a shift."""
    turn = np.deg2rad(rng.uniform(-2.5, 2.5))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stretch = np.array(
        [
            [1 + rng.uniform(-0.01, 0.01), rng.uniform(-0.01, 0.01)],
            [0.0, np.cos(np.deg2rad(rng.uniform(5, 12)))],
        ]
    )
    centre = np.array(shape) / 2
    linear = rotation @ stretch
    return Affine(linear, centre - linear @ centre + rng.uniform(-25, 25, 2))


def tissue(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A brightness map as of an AIP mosaic, and where the tissue is."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    outline = ndimage.gaussian_filter(rng.standard_normal(shape), min(shape) / 10)
    radius = np.hypot((rows / shape[0] - 0.5) * 2, (columns / shape[1] - 0.5) * 2)
    inside = radius + 0.15 * outline / outline.std() < 0.85
    texture = np.zeros(shape)
    for sigma, strength in ((2.0, 4.0), (6.0, 5.0), (20.0, 8.0)):
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
        texture += strength * noise / noise.std()
    edge = ndimage.gaussian_filter(inside.astype(float), 1.5)
    return 30 + edge * (45 + texture), inside


def pair(
    seed: int, shape: tuple[int, int] = (220, 300), looks: float = 300.0
) -> tuple[np.ndarray, np.ndarray, Affine, np.ndarray]:
    """Fixed and moving image with speckle, the map between them, and the fixed tissue."""
    rng = np.random.default_rng([seed, 7])
    whole = (shape[0] + 2 * MARGIN_PX, shape[1] + 2 * MARGIN_PX)
    image, inside = tissue(whole, seed)
    affine = random_affine(rng, shape)
    back = affine.inverse()
    margin = np.full(2, float(MARGIN_PX))
    moving = ndimage.affine_transform(
        image, back.A, back.t + margin, output_shape=shape, order=3, mode="nearest"
    )
    crop = (slice(MARGIN_PX, MARGIN_PX + shape[0]), slice(MARGIN_PX, MARGIN_PX + shape[1]))
    light = np.linspace(1.0, 0.8, shape[1])

    def speckled(a: np.ndarray) -> np.ndarray:
        return a * rng.standard_gamma(looks, a.shape) / looks

    return speckled(image[crop]), speckled(moving * light + 4), affine, inside[crop]


def target_error(found: Affine, true: Affine, tissue_mask: np.ndarray) -> np.ndarray:
    """Distances (px) between where the tissue points are and where they were found."""
    points = np.argwhere(tissue_mask)[::37]
    return np.linalg.norm(found.apply(points) - true.apply(points), axis=-1)


def directions(count: int, seed: int) -> np.ndarray:
    """Random unit vectors (count, 3), evenly over the sphere."""
    vectors = np.random.default_rng(seed).standard_normal((count, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def two_views(
    direction: np.ndarray, biref: np.ndarray, gamma_deg: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the two views see of fibres (..., 3): orientations (deg, stored sign) and biref."""
    gamma = np.deg2rad(gamma_deg)
    tilted = np.array([np.sin(gamma), 0.0, np.cos(gamma)])
    along = np.array([np.cos(gamma), 0.0, -np.sin(gamma)])
    first = _apparent(direction, biref, np.array([0.0, 0.0, 1.0]))
    second = _apparent(direction, biref, tilted)
    return (
        _stored(np.arctan2(first[..., 1], first[..., 0])),
        _stored(np.arctan2(second[..., 1], second @ along)),
        np.linalg.norm(first, axis=-1),
        np.linalg.norm(second, axis=-1),
    )


def _apparent(direction: np.ndarray, biref: np.ndarray, view: np.ndarray) -> np.ndarray:
    vector = direction * biref[..., np.newaxis]
    part = direction @ view
    across = vector - (vector @ view)[..., np.newaxis] * view
    return across * np.sqrt(np.maximum(1 - part**2, 0))[..., np.newaxis]


def _stored(angle: np.ndarray) -> np.ndarray:
    degrees = -np.rad2deg(angle)
    return 90.0 - (90.0 - degrees) % 180.0


def axial_difference_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs((a - b + 90) % 180 - 90)


def angle_between_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between two axes (..., 3) of unit length, exact for small ones."""
    sine = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.rad2deg(np.arctan2(sine, np.abs(np.sum(a * b, axis=-1))))


def as_stored_axis(direction: np.ndarray) -> np.ndarray:
    """(x, y, z) to the stored order (-X, Z, Y)."""
    return np.stack([-direction[..., 0], direction[..., 2], direction[..., 1]], axis=-1)
