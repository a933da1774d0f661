"""Angles of vectors and vectors of angles, as polynomials in single precision.

Without branches, so that many go through at a time; the libraries' functions take one after the
other.
"""

import numpy as np

from opticstream_smk.compiled import kernel

_TINY = np.float32(1e-37)
_PI = np.float32(np.pi)
_HALF_PI = np.float32(np.pi / 2)
_QUARTER_PI = np.float32(np.pi / 4)
_TAN_EIGHTH_PI = np.float32(np.sqrt(2) - 1)
_TWO_PI = np.float32(2 * np.pi)
_HALF_DEG = np.float32(90 / np.pi)


@kernel(forceinline=True)
def axial_vector(degrees):  # type: ignore[no-untyped-def]
    """Cosine and sine of twice an angle: the vector that stands for an axis of period 180."""
    turns = degrees * np.float32(1 / 180)
    turns -= np.floor(turns + np.float32(0.5))
    beyond = abs(turns) > np.float32(0.25)
    half = np.float32(-0.5) if turns < np.float32(0) else np.float32(0.5)
    return _sine(np.float32(0.25) - abs(turns)), _sine(half - turns if beyond else turns)


@kernel(forceinline=True)
def axis_of(cosine, sine):  # type: ignore[no-untyped-def]
    """Axis in degrees, (-90, 90], of a vector of `axial_vector` of any length."""
    degrees = angle_of(cosine, sine) * _HALF_DEG
    # Rounding brings up both ends of the period, which are the same orientation.
    return np.float32(90) if abs(degrees) >= np.float32(90) else degrees


@kernel(forceinline=True)
def _sine(turns):  # type: ignore[no-untyped-def]
    """Sine of an angle of at most a quarter turn either way: Taylor to x^11, error 6e-8."""
    x = turns * _TWO_PI
    square = x * x
    p = np.float32(-1 / 39916800)
    p = p * square + np.float32(1 / 362880)
    p = p * square - np.float32(1 / 5040)
    p = p * square + np.float32(1 / 120)
    p = p * square - np.float32(1 / 6)
    return x + x * square * p


@kernel(forceinline=True)
def angle_of(real, imag):  # type: ignore[no-untyped-def]
    """Angle of a complex number, rad; 0 of zero."""
    angle = first_quadrant(abs(imag), abs(real))
    angle = _PI - angle if real < np.float32(0) else angle
    return -angle if imag < np.float32(0) else angle


@kernel(forceinline=True)
def first_quadrant(y, x):  # type: ignore[no-untyped-def]
    """Arc tangent of y / x for numbers that are not negative, rad; 0 of 0 / 0."""
    steep = y > x
    small, large = (x, y) if steep else (y, x)
    # Beyond pi / 8, the angle to pi / 4 is the smaller one.
    far = small > _TAN_EIGHTH_PI * large
    above = small - large if far else small
    below = small + large if far else large
    below = _TINY if below < _TINY else below
    t = above / below
    square = t * t
    p = np.float32(8.05374449538e-2)
    p = p * square - np.float32(1.38776856032e-1)
    p = p * square + np.float32(1.99777106478e-1)
    p = p * square - np.float32(3.33329491539e-1)
    angle = p * square * t + t
    angle = angle + _QUARTER_PI if far else angle
    return _HALF_PI - angle if steep else angle
