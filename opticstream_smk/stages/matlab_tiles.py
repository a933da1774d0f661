"""A batch in psoct-toolbox: one start of MATLAB, then every product of every tile is checked."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opticstream_smk import naming
from opticstream_smk.config.matlab import reads_spectra
from opticstream_smk.errors import CorruptInputError, OpticStreamError, QualityError
from opticstream_smk.io import nifti, throttle
from opticstream_smk.io.raw_files import unchanged_raw
from opticstream_smk.layout import MATLAB_FOLDER
from opticstream_smk.matlab import run as matlab
from opticstream_smk.matlab.commands import batch_command, with_toolbox
from opticstream_smk.matlab.diagnosis import cause_of, failure_of, lines_about
from opticstream_smk.matlab.options import pipeline_options
from opticstream_smk.matlab.toolbox import (
    check_program,
    check_toolbox,
    toolbox_folder,
    toolbox_sha256,
)
from opticstream_smk.plan import image_list, makes_complex
from opticstream_smk.programs.own_folder import own_folder
from opticstream_smk.stages.resources import matlab_workers
from opticstream_smk.stages.stage import Outcome, StageContext, TilesFailedError
from opticstream_smk.stages.tiles import (
    TileWork,
    begin_tile,
    proven_receipt,
    ready_tiles,
    run_tiles,
)
from opticstream_smk.state.job_files import stage_log
from opticstream_smk.state.receipts import Receipt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opticstream_smk.psoct import TileProducts

log = logging.getLogger(__name__)

Write = Callable[[StageContext, int, "TileProducts"], dict[str, float]]


def run_batch(context: StageContext, work: TileWork, write: Write) -> Outcome:
    """Make the products of every tile of a batch, as ``run_tiles`` does, by psoct-toolbox.

    MATLAB writes into a folder of its own, new for each start: what lies in it was made by this
    start, and nothing half written has a final name. Tiles whose products are all there and
    plausible are kept, also when MATLAB failed.

    Parameters
    ----------
    work
        Where tiles come from and what is made of them; its ``make`` is not used.
    write
        Checks the products of a tile and writes them under their final names.

    Raises
    ------
    ConfigError
        MATLAB or the toolbox is not there, or does not fit the configuration.
    TilesFailedError
        MATLAB failed, or ended well and left some tiles out; names each of them. Its kind and exit
        code are those of the cause.
    """
    batch = _Batch(context, work)
    processed = context.layout.mosaic(context.mosaic) / "processed"
    prefix = f"{MATLAB_FOLDER}{naming.batch_stem(context.place.batch or 0)}-"
    # On the file system of the products.
    with own_folder(processed, prefix) as folder:
        failure = batch.run(folder)
        made = replace(work, make=lambda image, _: partial(batch.take, image, folder, write))
        if failure is not None:
            lost = batch.keep(made)
            if lost:
                raise TilesFailedError(
                    f"{context.place}: {failure}\nWithout products: images {image_list(lost)}; "
                    f"the other {len(batch.sources) - len(lost)} of this start are done and kept.",
                    tuple(lost),
                    failure.kind,
                    failure.exit_code,
                ) from failure
            log.warning("every tile is complete, although %s", failure)
        outcome = run_tiles(context, made)
    return replace(
        outcome,
        extra={"toolbox_sha256": toolbox_sha256(context.config)},
    )


class _Batch:
    """The tiles of a batch that are not proven to be done.

    Attributes
    ----------
    sources
        Files that MATLAB gets, by image.
    """

    def __init__(self, context: StageContext, work: TileWork) -> None:
        self._context = context
        self._raw = {} if makes_complex(context.config) else ready_tiles(context)
        self._refused: dict[int, OpticStreamError] = {}
        self._lines: tuple[str, ...] = ()
        self.sources: dict[int, Path] = {}
        for image in ready_tiles(context):
            try:
                source = work.source(image)
                if proven_receipt(context, work, image, source) is not None:
                    continue
                self._check_raw(image)
                path = context.layout.root / source.path
                _bring_in(path)
            except OpticStreamError as error:
                self._refused[image] = error
            else:
                self.sources[image] = path

    def run(self, folder: Path) -> OpticStreamError | None:
        """Start MATLAB once for all of them; returns the error that it ended with."""
        if not self.sources:
            return None
        config, processing = self._context.config, self._context.config.processing
        program = check_program(config)
        for doubt in check_toolbox(config):
            log.warning("%s", doubt)
        command = with_toolbox(
            toolbox_folder(config),
            batch_command(
                "spectral" if reads_spectra(processing, config.acquisition) else "complex",
                self.sources,
                folder,
                self._context.mosaic,
                pipeline_options(config, self._context.acquisition),
                num_workers=matlab_workers(config),
                pool_type=processing.matlab.pool_type,
            ),
        )
        log.info("%s for %d tiles: %s", processing.engine, len(self.sources), command)
        limit_s = processing.matlab.tile_timeout_s * len(self.sources)
        words = [program, *matlab.arguments(processing, command)[1:]]
        done = matlab.run_matlab(words, limit_s=limit_s, folder=folder)
        self._lines = done.lines
        hint = _log_hint(self._context)
        failure = failure_of(done, processing, limit_s=limit_s, log_hint=hint)
        if failure is None and any(self._missing(image, folder) for image in self.sources):
            # A tile that fails only warns, also for want of memory or of a licence.
            failure = cause_of(done.lines, hint)
        return failure

    def keep(self, work: TileWork) -> list[int]:
        """Finish the tiles that a MATLAB which failed has completed; returns the others."""
        lost = []
        for image in self.sources:
            try:
                begun = begin_tile(self._context, work, image)
                if not isinstance(begun, Receipt):
                    begun()
            except OpticStreamError as error:
                if error.kind == "service":
                    raise  # a full disk fails every tile
                log.info("%s", error)
                lost.append(image)
        return lost

    def take(self, image: int, folder: Path, write: Write) -> dict[str, float]:
        """Check what MATLAB left of a tile and give it its final names."""
        if image in self._refused:
            raise self._refused[image]
        self._check_raw(image)  # also not while MATLAB read it
        missing = self._missing(image, folder)
        if missing:
            raise QualityError(self._left_out(image, missing))
        files = self._files(image, folder)
        try:
            tile = _read_products(files)
        except CorruptInputError as error:
            raise QualityError(
                f"{self._where(image)}: MATLAB left products that cannot be read: "
                f"{error.__cause__}. See what it says of this tile, then retry."
            ) from error
        numbers = write(self._context, image, tile)
        for path in files.values():
            path.unlink()  # the folder holds a whole batch; it should not outlast its tiles
        return numbers

    def _check_raw(self, image: int) -> None:
        if self._raw:
            unchanged_raw(self._raw[image])

    def _files(self, image: int, folder: Path) -> dict[str, Path]:
        names = (*naming.VOLUME_MODALITIES, "surf", *self._context.config.processing.modalities)
        mosaic = self._context.mosaic
        return {name: folder / naming.tile_product_name(mosaic, image, name) for name in names}

    def _missing(self, image: int, folder: Path) -> list[str]:
        files = self._files(image, folder)
        return [name for name, path in files.items() if not path.is_file()]

    def _left_out(self, image: int, missing: list[str]) -> str:
        names = (naming.tile_stem(self._context.mosaic, image), self.sources[image].name)
        about = lines_about(self._lines, names)
        said = f" It said:\n{about}" if about else " It said nothing about this tile."
        return (
            f"{self._where(image)}: MATLAB left no {', '.join(missing)} (psoct-toolbox only warns "
            f"of a tile that fails). Mend the tile or the setting, then retry.{said}"
        )

    def _where(self, image: int) -> str:
        return f"image {image:04d} of mosaic {self._context.mosaic:03d}"


def _bring_in(path: Path) -> None:
    """Bring a raw tile into the page cache: MATLAB knows nothing of the limit on reading."""
    try:
        throttle.read_ahead(path)
    except OSError as error:
        raise CorruptInputError(
            f"raw tile {path} cannot be read ({error.strerror}); correct its permissions, or copy "
            "it again"
        ) from error


def _read_products(files: Mapping[str, Path]) -> "TileProducts":
    """Products as the native engine has them; volumes stay mapped."""
    from opticstream_smk.psoct import TileProducts, Volumes

    arrays = {name: _flat(nifti.read_array(path)) for name, path in files.items()}
    volumes = Volumes(*(arrays.pop(name) for name in naming.VOLUME_MODALITIES))
    return TileProducts(volumes, arrays.pop("surf"), arrays)


def _flat(array: "NDArray[Any]") -> "NDArray[Any]":
    """The toolbox saves maps as (X, Y, 1)."""
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _log_hint(context: StageContext) -> str:
    """Where all that MATLAB said is, when that is the log which snakemake gives the stage."""
    path = stage_log(context.layout, "process_tiles", context.place)
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(2), path.stat()):
            return f"\nAll of it is in {path}"
    return ""
