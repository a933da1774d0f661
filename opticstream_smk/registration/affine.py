"""The affine map between two images, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Affine:
    """Where a point of the fixed image lies in the moving image: ``A @ p + t``.

    Points are (y, x) in pixels, 0-based, pixel centres at whole numbers.

    Attributes
    ----------
    A : (2, 2) float64
        Linear part, read-only.
    t : (2,) float64
        Shift (y, x) in pixels, read-only.

    Raises
    ------
    ConfigError
        The arrays have another shape, are not finite, or ``A`` cannot be inverted.
    """

    A: NDArray[np.float64]
    t: NDArray[np.float64]

    def __post_init__(self) -> None:
        linear = np.array(self.A, dtype=np.float64)
        shift = np.array(self.t, dtype=np.float64)
        if linear.shape != (2, 2) or shift.shape != (2,):
            raise ConfigError(
                f"An affine map needs A of shape (2, 2) and t of shape (2,); "
                f"got {linear.shape} and {shift.shape}."
            )
        if not (np.isfinite(linear).all() and np.isfinite(shift).all()):
            raise ConfigError(f"An affine map must be finite; got A {linear.tolist()}, t {shift}.")
        if np.linalg.matrix_rank(linear) < 2:
            raise ConfigError(f"An affine map must be invertible; got A {linear.tolist()}.")
        linear.setflags(write=False)
        shift.setflags(write=False)
        object.__setattr__(self, "A", linear)
        object.__setattr__(self, "t", shift)

    @classmethod
    def identity(cls) -> "Affine":
        """Return the map that leaves every point where it is."""
        return cls(np.eye(2), np.zeros(2))

    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points (..., 2) in (y, x) from the fixed to the moving image."""
        return np.asarray(np.asarray(points, dtype=np.float64) @ self.A.T + self.t)

    def inverse(self) -> "Affine":
        """Return the map from the moving to the fixed image."""
        back = np.asarray(np.linalg.inv(self.A), dtype=np.float64)
        return Affine(back, -back @ self.t)

    def compose(self, first: "Affine") -> "Affine":
        """Return the map that applies ``first`` and then this one."""
        return Affine(self.A @ first.A, self.A @ first.t + self.t)

    @classmethod
    def from_matlab(cls, matrix: ArrayLike) -> "Affine":
        """Read MATLAB's ``affine2d.T``, as ``imregtform`` and ``imwarp`` use it.

        Parameters
        ----------
        matrix : (3, 3)
            Row-vector convention ``[x y 1] @ T``, **moving to fixed**, 1-based, x = column,
            y = row.
        """
        forward = np.asarray(matrix, dtype=np.float64)
        if forward.shape != (3, 3):
            raise ConfigError(f"MATLAB's affine2d.T has shape (3, 3); got {forward.shape}.")
        linear = forward[:2, :2].T[::-1, ::-1]
        # 1-based to 0-based: (p + 1) A' + t' - 1
        shift = linear @ np.ones(2) + forward[2, 1::-1] - 1.0
        return cls(linear, shift).inverse()

    def to_matlab(self) -> NDArray[np.float64]:
        """Return MATLAB's ``affine2d.T`` (3, 3) of this map; see :meth:`from_matlab`."""
        forward = self.inverse()
        shift = forward.t - forward.A @ np.ones(2) + 1.0
        matrix = np.eye(3)
        matrix[:2, :2] = forward.A[::-1, ::-1].T
        matrix[2, :2] = shift[::-1]
        return matrix

    def to_dict(self) -> dict[str, list[Any]]:
        """Return ``{"A": [[..], [..]], "t": [..]}`` of plain floats, ready for JSON."""
        return {"A": self.A.tolist(), "t": self.t.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Affine":
        """Read what :meth:`to_dict` gave; other keys are left alone."""
        missing = {"A", "t"} - set(data)
        if missing:
            raise ConfigError(f"An affine map needs the keys A and t; {sorted(missing)} missing.")
        return cls(data["A"], data["t"])
