"""Spectra of known reflectors, made from the optics and not from the code under test."""

from __future__ import annotations

import numpy as np

from opticstream_smk.psoct import Calibration

ZERO_BINS = 24


def calibration(samples: int = 512, *, dispersion: bool = True) -> Calibration:
    """Two slightly different cameras, and a smooth dispersion."""
    step_nm = 330 / samples
    wave = np.linspace(1160, 1460, 12)
    mu = np.stack([(wave - 1150.0) / step_nm + 1, (wave - 1149.4) / (step_nm * 1.0007) + 1], axis=1)
    u = np.linspace(-1, 1, samples)
    return Calibration(mu, wave, 3 * u**2 + 0.8 * u**3 if dispersion else None)


def reflector(
    cal: Calibration,
    jones1: np.ndarray,
    jones2: np.ndarray,
    *,
    depth_bin: int,
    samples: int = 512,
    counts: float = 2000.0,
) -> np.ndarray:
    """Spectra (Y, 2, X, N) of one reflector per A-line.

    `jones1`, `jones2` (X, Y): what J / (counts * N / 2) should be at FFT bin `depth_bin`.
    """
    pixels = np.arange(1, samples + 1)
    axes = [
        np.polyval(np.polyfit(cal.mu[:, camera], cal.wave_prime_nm, 1), pixels)
        for camera in range(2)
    ]
    k_max = 2 * np.pi / max(axes[0][0], axes[1][0])
    k_min = 2 * np.pi / min(axes[0][-1], axes[1][-1])
    alines, blines = jones1.shape
    spectra = np.empty((blines, 2, alines, samples), np.uint16)
    for camera, (axis, jones) in enumerate(zip(axes, (jones1, jones2), strict=True)):
        place = (k_max - 2 * np.pi / axis) / (k_max - k_min) * (samples - 1)
        phase = 2 * np.pi * depth_bin * place / samples
        if cal.dispersion_rad is not None:
            phase = phase + np.interp(place, np.arange(samples), cal.dispersion_rad)
        # J is the conjugate of the transform, so the fringe carries the opposite angle.
        fringe = (np.conj(jones.T)[:, :, None] * np.exp(1j * phase)).real
        background = 20000 + 3000 * np.sin(pixels / 60)
        signal = np.rint(background + counts * fringe).astype(np.uint16)
        spectra[:, camera] = signal if camera == 0 else signal[..., ::-1]
    return spectra


def literal_jones(
    spectra: np.ndarray, cal: Calibration, *, toolbox_quirks: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The reconstruction step by step in float64, as the toolbox does it."""
    blines, _, alines, samples = spectra.shape
    pixels = np.arange(1, samples + 1)
    axes = [
        np.polyval(np.polyfit(cal.mu[:, camera], cal.wave_prime_nm, 1), pixels) * 1e-9
        for camera in range(2)
    ]
    k_min = 2 * np.pi / min(axes[0][-1], axes[1][-1])
    k_max = 2 * np.pi / max(axes[0][0], axes[1][0])
    grid = 2 * np.pi / np.linspace(k_min, k_max, samples)[::-1]
    depth = samples // 2 - ZERO_BINS
    jones = np.empty((2, alines, blines, depth), complex)
    phase = np.zeros(samples) if cal.dispersion_rad is None else cal.dispersion_rad
    for y in range(blines):
        for camera, axis in enumerate(axes):
            block = spectra[y, camera].astype(float).T
            if camera == 1:
                block = np.flipud(block)
            block = block - block.mean(axis=1, keepdims=True)
            if toolbox_quirks:
                bins = np.fft.fft(block, axis=0)
                bins[samples // 2, 0] /= 2
                block = np.fft.ifft(bins, axis=0).real
            even = np.stack([np.interp(grid, axis, line) for line in block.T], axis=1)
            even -= np.median(even, axis=1, keepdims=True)
            transformed = np.fft.fft(even * np.exp(-1j * phase)[:, None], axis=0)
            jones[camera, :, y] = transformed[ZERO_BINS : ZERO_BINS + depth].conj().T
    return jones[0], jones[1]
