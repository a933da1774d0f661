"""Files as linc-convert writes them: see `opticstream_smk.mosaic.compat`."""

from __future__ import annotations

import math
import shutil
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.errors import ConfigError
from opticstream_smk.io.atomic import write_error, write_json, write_with
from opticstream_smk.io.pictures import write_jpeg, write_tiff
from opticstream_smk.mosaic.compat import LincMosaic, halve, halving, to_uint8

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_linc_images(
    image: NDArray[np.float32], outputs: list[Path], voxel_mm: tuple[float, float, float]
) -> None:
    """Write (x, y) as linc-convert: an identity affine beside voxel sizes, NaN as it is."""
    import nibabel

    for output in outputs:
        if output.suffix == ".nii":
            file = nibabel.Nifti1Image(image, np.eye(4))
            file.header.set_zooms(voxel_mm[:2])
            file.header.set_xyzt_units("mm", "sec")
            write_with(output, partial(nibabel.save, file))
        elif output.suffix in (".tif", ".tiff"):
            write_tiff(output, np.ascontiguousarray(image.T), pixel_mm=voxel_mm[:2])
        else:
            write_jpeg(output, to_uint8(image.T), quality=95)


def write_linc_zarr(
    mosaic: LincMosaic,
    output: Path,
    voxel_mm: tuple[float, float, float],
    *,
    chunk: tuple[int, ...],
    shard: tuple[int, ...] | None,
) -> None:
    """Write (z, y, x) with its pyramid, Zarr version 3 with the attributes of NGFF 0.4."""
    if output.exists():
        raise ConfigError(f"{output} exists; remove it, or give another -o")
    shape = mosaic.shape[::-1]
    chunk = _three(chunk, "chunk")
    shard = None if shard is None else _three(shard, "shard")
    if shard is None:
        chunk = tuple(min(n, c) for n, c in zip(shape, chunk, strict=True))
    count = max(math.ceil(math.log2(n / c)) for n, c in zip(shape, chunk, strict=True))
    temporary = output.with_name(f".tmp-{output.name}")
    shapes = [tuple(max(1, n >> level) for n in shape) for level in range(max(count, 0) + 1)]
    try:
        _fill_zarr(mosaic, temporary, shapes, chunk, shard, voxel_mm)
        temporary.rename(output)
    except OSError as error:
        failure = write_error(output, error)
        shutil.rmtree(temporary, ignore_errors=True)
        raise failure from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill_zarr(
    mosaic: LincMosaic,
    folder: Path,
    shapes: list[tuple[int, ...]],
    chunk: tuple[int, ...],
    shard: tuple[int, ...] | None,
    voxel_mm: tuple[float, float, float],
) -> None:
    import zarr
    from zarr.codecs import BloscCodec

    arrays = [
        zarr.create_array(
            store=str(folder / str(level)),
            shape=size,
            dtype="float32",
            chunks=chunk,
            shards=shard,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
            fill_value=0.0,
            overwrite=True,
        )
        for level, size in enumerate(shapes)
    ]
    for (x, y), block in mosaic.blocks():
        arrays[0][:, y, x] = block.T
    for above, below in pairwise(arrays):
        for source, target in halving(above.shape, chunk):
            below[target] = halve(np.asarray(above[source]))
    attributes = {"multiscales": [_linc_multiscale(voxel_mm[::-1], len(arrays))]}
    write_json(
        folder / "zarr.json",
        {"zarr_format": 3, "node_type": "group", "attributes": attributes},
    )


def _linc_multiscale(voxel_mm: tuple[float, ...], levels: int) -> dict[str, Any]:
    def transforms(level: int) -> list[dict[str, Any]]:
        return [
            {"type": "scale", "scale": [size * 2**level for size in voxel_mm]},
            {"type": "translation", "translation": [v * (2**level - 1) / 2 for v in voxel_mm]},
        ]

    return {
        "name": "",
        "type": "median window 2x2x2",
        "axes": [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"],
        "datasets": [
            {"path": str(level), "coordinateTransformations": transforms(level)}
            for level in range(levels)
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}],
        "version": "0.4",
    }


def _three(values: tuple[int, ...], name: str) -> tuple[int, ...]:
    if len(values) not in (1, 3) or min(values) < 1:
        raise ConfigError(f"{name} {list(values)}: expected one length, or three (z, y, x)")
    return values * 3 if len(values) == 1 else values
