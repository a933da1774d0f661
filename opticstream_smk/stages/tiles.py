"""A batch, tile by tile: what receipts prove is skipped, a bad tile stops no other."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from opticstream_smk.errors import IncompleteInputError, OpticStreamError
from opticstream_smk.stages.stage import Outcome, StageContext, TilesFailedError
from opticstream_smk.state.flags import InputFile, TileCount, read_flag
from opticstream_smk.state.receipts import Receipt, read_receipt, write_receipt

log = logging.getLogger(__name__)


Finish: TypeAlias = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class TileWork:
    """What a stage does with one tile.

    Attributes
    ----------
    kind
        Folder of the receipts: ``complex``, ``processed`` or ``archived``.
    source
        The file that a tile is made from, as it is expected to be; raises when it is not there.
    products
        The files that are made from it.
    make
        Makes them from the source, and returns what is left to do: to bring them to disk under
        their names, and to return numbers for the receipt. That is done while the next tile is
        made.
    details
        What else the receipt is to say, asked after ``make``.
    is_still_true
        Whether what a receipt says still holds, where the sizes of the products do not prove
        enough; raises where the tile must not be made again.
    """

    kind: str
    source: Callable[[int], InputFile]
    products: Callable[[int], list[Path]]
    make: Callable[[int, Path], Finish]
    details: Callable[[int], dict[str, Any]] = lambda _image: {}
    is_still_true: Callable[[int, Receipt], bool] = lambda _image, _receipt: True


def nothing_left() -> dict[str, float]:
    """What is left to do where everything is done, and there are no numbers."""
    return {}


def run_tiles(context: StageContext, work: TileWork) -> Outcome:
    """Make the products of every tile of a batch.

    Raises
    ------
    TilesFailedError
        Some tiles cannot be used; names each of them. All others are done and kept.
    """
    raw = ready_tiles(context)
    receipts: dict[int, Receipt] = {}
    errors: dict[int, OpticStreamError] = {}

    def fail(number: int, image: int, error: OpticStreamError) -> None:
        if error.kind == "service":
            raise error  # a full disk fails every tile; one message is enough
        errors[image] = error
        log.error("tile %d of %d: %s", number, len(raw), error)

    def settle(number: int, image: int, coming: Future[Receipt]) -> None:
        try:
            receipts[image] = coming.result()
        except OpticStreamError as error:
            fail(number, image, error)
        else:
            log.info("tile %d of %d: image %04d done", number, len(raw), image)

    # Whatever ends this: a tile that was made is brought to disk first.
    with ThreadPoolExecutor(1) as finisher:
        last: tuple[int, int, Future[Receipt]] | None = None
        for number, image in enumerate(raw, start=1):
            try:
                begun = begin_tile(context, work, image)
            except OpticStreamError as error:
                fail(number, image, error)
                continue
            if isinstance(begun, Receipt):
                receipts[image] = begun
                log.info("tile %d of %d: image %04d kept", number, len(raw), image)
                continue
            before, last = last, (number, image, finisher.submit(begun))
            if before is not None:
                settle(*before)
        if last is not None:
            settle(*last)
    if errors:
        raise _tiles_failed(context, errors, len(receipts))
    receipts = {image: receipts[image] for image in raw}
    if ready_tiles(context) != raw:
        raise IncompleteInputError(
            f"{context.place}: its raw files were replaced while it was processed. Nothing to do: "
            "the watcher, or the next snakemake, processes the new ones; the others are kept."
        )
    return Outcome(
        inputs=tuple(receipt.input for receipt in receipts.values()),
        outputs=tuple(
            context.layout.root / output.path
            for receipt in receipts.values()
            for output in receipt.outputs
        ),
        tiles=TileCount(done=tuple(receipts), missing=context.tiles.missing),
        numbers=_means(receipts),
    )


def ready_tiles(context: StageContext) -> dict[int, InputFile]:
    """Raw tiles of a batch by image number, as its ``.ready`` lists them.

    Where the host saves maps, a tile is represented by its intensity volume, or by its surface.
    """
    kind = context.config.acquisition.main_file
    return {image: files[kind] for image, files in ready_files(context).items()}


def ready_files(context: StageContext) -> dict[int, dict[str, InputFile]]:
    """Raw files of a batch by image number and modality, as its ``.ready`` lists them.

    A tile that lacks one of its files is missing; its other files are left out.
    """
    path = context.layout.batch_flag(context.mosaic, context.place.batch or 0, "ready")
    ready = read_flag(path)
    if ready is None:
        raise IncompleteInputError(
            f"{context.place} is not ready: there is no {path}. Run `optic-trigger scan`; it says "
            "what the batch waits for."
        )
    found: dict[int, dict[str, InputFile]] = {image: {} for image in ready.tiles.done}
    for file in ready.inputs:
        keys = file.model_extra or {}
        if keys["image"] in found:
            found[keys["image"]][str(keys["modality"])] = file
    return found


def proven_receipt(
    context: StageContext, work: TileWork, image: int, source: InputFile
) -> Receipt | None:
    """Receipt that proves a tile to be done with today's parameters from this source."""
    receipt = read_receipt(context.layout.receipt(context.mosaic, image, work.kind))
    if (
        receipt is not None
        and receipt.proves(context.params_sha256, source, context.layout.root)
        and work.is_still_true(image, receipt)
    ):
        return receipt
    return None


def begin_tile(
    context: StageContext, work: TileWork, image: int
) -> Receipt | Callable[[], Receipt]:
    """Return the receipt of a tile that is done; make any other, and return what finishes it."""
    path = context.layout.receipt(context.mosaic, image, work.kind)
    source = work.source(image)
    receipt = proven_receipt(context, work, image, source)
    if receipt is not None:
        return receipt
    # A receipt that proves nothing any more must not outlive the products it lists.
    path.unlink(missing_ok=True)
    finish = work.make(image, context.layout.root / source.path)

    def finish_and_write() -> Receipt:
        numbers = finish()
        return write_receipt(
            path,
            context.layout,
            params_sha256=context.params_sha256,
            source=source,
            products=work.products(image),
            numbers=numbers,
            details=work.details(image),
        )

    return finish_and_write


def _tiles_failed(
    context: StageContext, errors: Mapping[int, OpticStreamError], kept: int
) -> TilesFailedError:
    first = next(iter(errors.values()))
    listed = "\n".join(f"  image {image:04d}: {error}" for image, error in errors.items())
    return TilesFailedError(
        f"{context.place}: {len(errors)} of {len(errors) + kept} tiles failed, "
        f"{kept} are done and kept; a retry does only the failed ones.\n{listed}",
        tuple(errors),
        first.kind,
        first.exit_code,
    )


def _means(receipts: Mapping[int, Receipt]) -> dict[str, float]:
    """Mean over the tiles that have a number; a map without any finite value has none."""
    found: dict[str, list[float]] = {}
    for receipt in receipts.values():
        for name, value in receipt.numbers.items():
            found.setdefault(name, []).append(value)
    return {name: round(sum(values) / len(values), 8) for name, values in sorted(found.items())}
