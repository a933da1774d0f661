"""Access to the state of a project: locked for writers, locked or not for readers.

This layer is generic: it knows locks and nothing of mosaics or strips. What a pipeline keeps as
its state, and how that is loaded and saved, comes from its :class:`Repository`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks

TState = TypeVar("TState")
TNode = TypeVar("TNode")
TResult = TypeVar("TResult")


class Repository(Protocol[TState]):
    """Loads and saves the state of one pipeline's projects."""

    def load(self, layout: ProjectLayout) -> TState:
        """Load the state; parts may be read only when they are asked for."""

    def save(self, state: TState) -> None:
        """Make the changes of a mutable state durable."""


class ProjectStateStore(Generic[TState]):
    """State of projects, one lock for each."""

    def __init__(self, repository: Repository[TState]) -> None:
        self._repository = repository

    @contextmanager
    def locked(self, layout: ProjectLayout) -> Iterator[TState]:
        """Lock, load, yield the mutable state, save. Nothing is saved when the block raises."""
        with locks.hold(layout.project_lock):
            state = self._repository.load(layout)
            yield state
            self._repository.save(state)

    def read(self, layout: ProjectLayout, reader: Callable[[TState], TResult]) -> TResult:
        """Read under the lock: consistent with concurrent writers."""
        with locks.hold(layout.project_lock):
            return reader(self._repository.load(layout))

    def update(self, layout: ProjectLayout, mutate: Callable[[TState], TResult]) -> TResult:
        """Change under the lock by one callback."""
        with self.locked(layout) as state:
            return mutate(state)

    def peek(self, layout: ProjectLayout, reader: Callable[[TState], TResult]) -> TResult:
        """Read without the lock: for display, never for check-then-act."""
        return reader(self._repository.load(layout))

    @contextmanager
    def edit(self, layout: ProjectLayout, getter: Callable[[TState], TNode]) -> Iterator[TNode]:
        """Lock and yield one mutable part of the state; save at the end."""
        with self.locked(layout) as state:
            yield getter(state)
