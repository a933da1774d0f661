"""Whether a tile shows anything: its counts, its surface, its intensity."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.naming import TILTED
from opticstream_smk.preflight.check import Check, failed, note, ok, warning
from opticstream_smk.preflight.tile import DecodedTile, faults

_FULL_16_BIT = 65535
# Cameras have an offset: a count of 0 is a dropped sample, or a camera that was off.
_MAX_ZERO_SHARE = 0.001


@dataclass(frozen=True)
class Counts:
    """Raw counts of a tile.

    Attributes
    ----------
    top
        Largest count that the camera can give.
    saturated, zeros
        Shares 0 to 1 of samples at `top` and at 0.
    """

    low: int
    high: int
    top: int
    saturated: float
    zeros: float


def count(raw: NDArray[np.unsignedinteger[Any]], camera_top: int) -> Counts:
    """Look at every count of (Y, 2, X, N) spectra, B-line by B-line.

    Parameters
    ----------
    camera_top
        Configured largest count; where any count is larger, all 16 bits are in use.
    """
    low, high = int(raw.min()), int(raw.max())
    top = camera_top if high <= camera_top else _FULL_16_BIT
    saturated = sum(int(np.count_nonzero(line >= top)) for line in raw)
    zeros = sum(int(line.size - np.count_nonzero(line)) for line in raw)
    return Counts(low, high, top, saturated / raw.size, zeros / raw.size)


def check_counts(config: Config, tile: DecodedTile) -> list[Check]:
    """Raw counts: none at all, saturated, dropped."""
    if tile.raw is None:
        return []
    limits = config.processing.qc_limits
    counts = count(tile.raw, limits.saturation_count)
    name = "raw counts"
    numbers = {
        "lowest_count": counts.low,
        "highest_count": counts.high,
        "saturated_share": counts.saturated,
        "zero_share": counts.zeros,
    }
    if counts.low == counts.high:
        return [
            failed(
                "data",
                name,
                f"no signal: every sample is {counts.low}",
                "spectra",
                "Look at cameras and trigger, and at the file; such a tile is refused",
                **numbers,
            )
        ]
    checks = []
    if counts.saturated > limits.max_saturation_share:
        checks.append(
            warning(
                name,
                f"the tile is saturated: {_percent(counts.saturated)} of samples are {counts.top}",
                f"at most {_percent(limits.max_saturation_share)}",
                "Lower power or exposure; processing.qc_limits.max_saturation_share is the limit",
                **numbers,
            )
        )
    if counts.zeros > _MAX_ZERO_SHARE:
        checks.append(
            warning(
                name,
                f"{_percent(counts.zeros)} of samples are 0",
                f"at most {_percent(_MAX_ZERO_SHARE)}",
                "Look for a camera that was off or lines that were dropped",
                **numbers,
            )
        )
    if counts.top != limits.saturation_count:
        checks.append(
            warning(
                name,
                f"counts go up to {counts.high}",
                f"at most processing.qc_limits.saturation_count {limits.saturation_count}",
                "Set it to the top value of the cameras (65535 for 16 bits): saturation is "
                "measured against it",
            )
        )
    if not checks:
        checks.append(
            ok(
                name,
                f"{counts.low} to {counts.high}; {_percent(counts.saturated)} saturated (at "
                f"{counts.top}), {_percent(counts.zeros)} zero",
                **numbers,
            )
        )
    return checks


def check_products(config: Config, tile: DecodedTile, numbers: Mapping[str, float]) -> list[Check]:
    """What came out: whether it can be right, shows a surface, and would be tissue."""
    name = f"tile {tile.name}"
    wrong = faults(config, tile)
    if wrong:
        return [
            failed(
                "data",
                name,
                f"its products cannot be right: {'; '.join(wrong)}",
                "finite values within processing.validation",
                "Look at the picture and at the raw tile; the tile stage refuses it",
            )
        ]
    surface = _check_surface(config, name, numbers)
    return [*([surface] if surface else []), _check_intensity(config, tile, name, numbers)]


def _check_surface(config: Config, name: str, numbers: Mapping[str, float]) -> Check | None:
    coverage = numbers.get("surface_coverage")
    if coverage is None:
        return None
    limits = config.processing.qc_limits
    snr = numbers.get("snr_db")
    if coverage < limits.min_surface_coverage:
        return warning(
            name,
            f"a credible surface on only {_percent(coverage)} of the A-lines",
            f"at least {_percent(limits.min_surface_coverage)}",
            "A tile beside the tissue has none: choose one inside with --mosaic and --image. If "
            "that has none either, look at calibration_file, flip_z and processing.surface",
            surface_coverage=coverage,
        )
    if snr is not None and snr < limits.min_snr_db:
        return warning(
            name,
            f"the signal is {snr:.1f} dB above the noise",
            f"at least {limits.min_snr_db:g} dB",
            "Look at power and focus",
            snr_db=snr,
        )
    return None


def _check_intensity(
    config: Config, tile: DecodedTile, name: str, numbers: Mapping[str, float]
) -> Check:
    aip = np.asarray(tile.products["aip"] if "aip" in tile.products else tile.products["dBI"])
    mean = float(np.nanmean(aip))
    parts = [f"mean intensity {mean:.1f} dB"]
    if "surface_coverage" in numbers:
        parts.append(f"surface on {_percent(numbers['surface_coverage'])} of the A-lines")
    if "snr_db" in numbers:
        parts.append(f"{numbers['snr_db']:.1f} dB above the noise")
    found = f"decoded: {', '.join(parts)}"
    measured = {"mean_db": round(mean, 3), **{k: round(v, 5) for k, v in numbers.items()}}
    if "aip" not in tile.products:
        return ok(name, found, **measured)
    threshold = config.mosaic.mask_threshold(tile.label)
    if threshold == "auto":
        # Found from a whole mosaic: one tile may be all tissue.
        return ok(name, found, **measured)
    share = float(np.mean(aip > threshold))
    key = f"mosaic.mask_threshold_{TILTED if tile.label == TILTED else 'normal'}"
    found = f"{found}; {_percent(share)} of it is tissue by {key} {threshold:g}"
    measured["tissue_share"] = round(share, 5)
    if share == 0:
        return note(
            name,
            found,
            f"If there is tissue in it, lower {key}; its AIP ends at "
            f"{float(np.nanmax(aip)):.1f} dB",
            **measured,
        )
    return ok(name, found, **measured)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
