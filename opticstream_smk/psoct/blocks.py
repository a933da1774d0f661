"""Tiles block by block: one is computed while the next is read and the last is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class BlockWork(Generic[Given, Made]):
    """Threads and memory that tiles of one size go through, one after the other.

    One thread reads and one stores; those that compute take one B-line after the other, and go on
    to the next block or tile without waiting for each other.

    Parameters
    ----------
    blines
        B-lines of a tile.
    given_rows, made_rows
        B-lines that are read, and that are stored, at a time; the second is a multiple of the
        first or covers the tile.
    made
        Memory for blocks to be stored: two pieces, or one that covers the tile.
    threads
        Threads that compute.
    """

    def __init__(
        self, *, blines: int, given_rows: int, made_rows: int, made: Sequence[Made], threads: int
    ) -> None:
        self._blines, self._made_rows = blines, made_rows
        self._spans = [
            (start, min(start + given_rows, blines)) for start in range(0, blines, given_rows)
        ]
        self._made = made
        self._turn = 0
        # What is still to be stored from each piece of memory.
        self._storing: list[Future[None] | None] = [None] * len(made)
        self._reader, self._storer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._computers = ThreadPoolExecutor(threads)
        self._idle: SimpleQueue[int] = SimpleQueue()
        for thread in range(threads):
            self._idle.put(thread)

    def start(
        self,
        given: Sequence[Given],
        read: Callable[[int, int, Given], Given],
        compute: Callable[[int, Given, int, Made, int, int], None],
        store: Callable[[int, int, Made], None],
    ) -> Callable[[], None]:
        """Compute a tile.

        Parameters
        ----------
        given
            Two pieces of memory for what is read.
        read
            ``read(start, stop, given)`` returns the input of some B-lines, in that memory or
            elsewhere.
        compute
            ``compute(thread, input, row, made, row, y)`` makes B-line y of the tile, at these rows
            of the two.
        store
            ``store(start, stop, made)`` gets the blocks in their order when they are computed.

        Returns
        -------
        callable
            Waits until all is stored. The next tile may be started before.

        Raises
        ------
        Exception
            Whatever fails first, when nothing of the tile is in work any more. What is returned
            raises so too.
        """
        rows: list[Future[None]] = []
        stored: list[Future[None]] = []

        def compute_row(block: Given, row: int, made: Made, y: int) -> None:
            thread = self._idle.get()
            try:
                compute(thread, block, row, made, y % self._made_rows, y)
            finally:
                self._idle.put(thread)

        def store_block(rows: Sequence[Future[None]], first: int, stop: int, made: Made) -> None:
            _results(rows)
            store(first, stop, made)

        coming = self._reader.submit(read, *self._spans[0], given[0])
        try:
            begun = 0
            for number, (start, stop) in enumerate(self._spans):
                block = coming.result()
                if start % self._made_rows == 0:
                    first, made = start, self._next_made()
                    # No need to go on when the disk is full.
                    _results([some for some in stored if some.done()])
                before, begun = begun, len(rows)
                rows += [
                    self._computers.submit(compute_row, block, y - start, made, y)
                    for y in range(start, stop)
                ]
                if stop == self._blines or stop % self._made_rows == 0:
                    stored.append(
                        self._storer.submit(store_block, rows[first:stop], first, stop, made)
                    )
                    self._storing[self._turn] = stored[-1]
                # What was read before these is not needed any more: the next takes its place.
                _results(rows[before:begun])
                if number + 1 < len(self._spans):
                    memory = given[(number + 1) % 2]
                    coming = self._reader.submit(read, *self._spans[number + 1], memory)
            _results(rows)
        except BaseException:
            unfinished: list[Future[Any]] = [coming, *rows, *stored]
            for some in unfinished:
                some.cancel()
            wait(unfinished)
            raise
        return lambda: _results(stored)

    def _next_made(self) -> Made:
        """The memory that was stored from longest ago."""
        self._turn = (self._turn + 1) % len(self._made)
        storing = self._storing[self._turn]
        if storing is not None:
            wait([storing])
        return self._made[self._turn]


def _results(futures: Sequence[Future[None]]) -> None:
    """Wait for all; raise what the first of them raised that failed."""
    wait(futures)
    for some in futures:
        some.result()
