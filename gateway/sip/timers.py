"""One queue of deadlines for all state machines; time is given in, never read."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Protocol


class TimerOwner(Protocol):
    """Something with named timers. ``deadlines`` belongs to the queue."""

    deadlines: dict[str, float]

    def on_timer(self, name: str, now: float) -> None:
        """The timer ``name`` has fired; it is no longer set."""


class TimerQueue:
    """Deadlines in seconds of the caller's monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerOwner, str]] = []
        self._order = count()

    def start(self, owner: TimerOwner, name: str, at: float) -> None:
        """Set (or move) a timer."""
        owner.deadlines[name] = at
        heapq.heappush(self._heap, (at, next(self._order), owner, name))

    def stop(self, owner: TimerOwner, *names: str) -> None:
        """Unset timers; without names, all of the owner's."""
        for name in names or tuple(owner.deadlines):
            owner.deadlines.pop(name, None)

    def next_deadline(self) -> float | None:
        """When ``advance`` has something to do, or None."""
        heap = self._heap
        while heap and heap[0][2].deadlines.get(heap[0][3]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def advance(self, now: float) -> None:
        """Fire everything that is due, in order."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, owner, name = heapq.heappop(heap)
            if owner.deadlines.get(name) == at:
                del owner.deadlines[name]
                owner.on_timer(name, now)
