"""A tile block by block: one is computed while the next is read and the last is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class BlockWork(Generic[Given, Made]):
    """What is done with the B-lines of a tile.

    Attributes
    ----------
    blines
        B-lines of the tile.
    given_rows, made_rows
        B-lines that are read, and that are written, at a time; the second is a multiple of the
        first or covers the tile.
    given, made
        Two pieces of memory for each.
    read
        ``read(start, stop, given)`` returns the input of some B-lines, in that memory or elsewhere.
    compute
        One for each thread: ``compute(input, row, made, row, y)`` makes B-line y of the tile, at
        these rows of the two.
    finish
        ``finish(start, stop, made)``: all B-lines of a block are computed.
    write
        ``write(start, stop, made)``, the last that is done with a block.
    """

    blines: int
    given_rows: int
    made_rows: int
    given: Sequence[Given]
    made: Sequence[Made]
    read: Callable[[int, int, Given], Given]
    compute: Sequence[Callable[[Given, int, Made, int, int], None]]
    finish: Callable[[int, int, Made], None]
    write: Callable[[int, int, Made], None]

    def run(self) -> None:
        """Do it. Whatever fails first is raised, when nothing is in work any more."""
        spans = [
            (start, min(start + self.given_rows, self.blines))
            for start in range(0, self.blines, self.given_rows)
        ]
        with (
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as writer,
            ThreadPoolExecutor(len(self.compute)) as pool,
        ):
            coming = reader.submit(self.read, *spans[0], self.given[0])
            writing: list[Future[None] | None] = [None, None]
            for number, (start, stop) in enumerate(spans):
                found = coming.result()
                if number + 1 < len(spans):
                    coming = reader.submit(
                        self.read, *spans[number + 1], self.given[(number + 1) % 2]
                    )
                block, row = divmod(start, self.made_rows)
                before = writing[block % 2]
                if row == 0 and before is not None:
                    before.result()
                made = self.made[block % 2]
                self._compute(pool, found, made, row, start, stop)
                if row + stop - start == self.made_rows or stop == self.blines:
                    first = block * self.made_rows
                    self.finish(first, stop, made)
                    writing[block % 2] = writer.submit(self.write, first, stop, made)
            for last in writing:
                if last is not None:
                    last.result()

    def _compute(
        self, pool: ThreadPoolExecutor, given: Given, made: Made, first: int, start: int, stop: int
    ) -> None:
        count = len(self.compute)

        def some(thread: int) -> None:
            for row in range(thread, stop - start, count):
                self.compute[thread](given, row, made, first + row, start + row)

        if count == 1:
            some(0)
            return
        tasks: list[Future[None]] = [pool.submit(some, thread) for thread in range(count)]
        for task in tasks:
            task.result()
