"""The configured grid against the tiles of the mosaics that are there."""

from opticstream_smk.naming import TILTED
from opticstream_smk.preflight.check import Check, counted, failed, ok, some, warning
from opticstream_smk.preflight.raw_files import RawFiles


def check_grid(raw: RawFiles) -> list[Check]:
    """Mosaics that are complete or were left behind, against the grid of their acquisition."""
    checks = [
        failed(
            "config",
            "grid",
            message.split("; correct", maxsplit=1)[0],
            "every image inside the grid",
            f"Correct {_keys(raw.label(about[1]))}",
        )
        for about, message in raw.problems.items()
        if isinstance(about, tuple) and about[0] == "beyond"
    ]
    for label in raw.config.acquisition.labels:
        mosaics = [mosaic for mosaic in sorted(raw.images) if raw.label(mosaic) == label]
        if mosaics:
            checks.append(_check_label(raw, label, mosaics))
    return checks


def _check_label(raw: RawFiles, label: str, mosaics: list[int]) -> Check:
    scan = raw.config.acquisition
    columns, rows = scan.columns(label), scan.rows(label)
    expected = columns * rows
    grid = f"{columns} columns x {rows} rows = {expected} tiles"
    name = f"grid of {label} mosaics"
    # The last one may still be being acquired.
    left = [mosaic for mosaic in mosaics if mosaic < max(raw.images)]
    short = {m: raw.images[m] for m in left if len(raw.images[m]) < expected}
    if not short:
        complete = sum(len(raw.images[mosaic]) == expected for mosaic in mosaics)
        growing = [
            f"mosaic {mosaic:03d} has {len(raw.images[mosaic])} so far"
            for mosaic in mosaics
            if len(raw.images[mosaic]) < expected
        ]
        rest = f"; {some(growing)}" if growing else ""
        return ok(name, f"{grid}; {counted(complete, 'complete mosaic')}{rest}")
    counts = {len(images) for images in short.values()}
    count = next(iter(counts))
    whole = all(max(images) == len(images) for images in short.values())
    if len(short) == len(left) and len(counts) == 1 and whole:
        listed = some([f"{mosaic:03d}" for mosaic in short])
        return failed(
            "config",
            name,
            f"each mosaic that was left for the next one ({listed}) has the images 1 to {count}",
            grid,
            f"If the acquisition was complete, correct {_keys(label)}: {_fitting(count, rows)}",
        )
    lacking = [
        f"mosaic {mosaic:03d} lacks {expected - len(images)}" for mosaic, images in short.items()
    ]
    return warning(
        name,
        f"{some(lacking)}, although the next mosaic was begun",
        grid,
        "Bring the missing tiles, or set mosaic.allow_missing_tiles",
    )


def _keys(label: str) -> str:
    suffix = TILTED if label == TILTED else "normal"
    return f"acquisition.grid_size_x_{suffix} or acquisition.grid_size_y"


def _fitting(count: int, rows: int) -> str:
    if count % rows == 0:
        return f"{count // rows} columns of {rows} rows would have {count} tiles"
    pairs = [f"{count // r} x {r}" for r in range(1, count + 1) if count % r == 0]
    return f"columns x rows may be {', '.join(pairs)}"
