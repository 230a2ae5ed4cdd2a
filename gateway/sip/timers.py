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
        self._stale = 0

    def __len__(self) -> int:
        """Entries, those of timers that were unset or moved included."""
        return len(self._heap)

    def start(self, owner: TimerOwner, name: str, at: float) -> None:
        """Set (or move) a timer."""
        if name in owner.deadlines:
            self._forget_one()
        owner.deadlines[name] = at
        heapq.heappush(self._heap, (at, next(self._order), owner, name))

    def stop(self, owner: TimerOwner, *names: str) -> None:
        """Unset timers; without names, all of the owner's."""
        for name in names or tuple(owner.deadlines):
            if owner.deadlines.pop(name, None) is not None:
                self._forget_one()

    def _forget_one(self) -> None:
        """One entry is stale. They are swept out once they are the most: a call's longest timer is hours away, and its
        entry must not keep the call until then."""
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].deadlines.get(entry[3]) == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_deadline(self) -> float | None:
        """When ``advance`` has something to do, or None."""
        heap = self._heap
        while heap and heap[0][2].deadlines.get(heap[0][3]) != heap[0][0]:
            heapq.heappop(heap)
            self._stale -= 1
        return heap[0][0] if heap else None

    def advance(self, now: float) -> None:
        """Fire everything that is due, in order."""
        while self._heap and self._heap[0][0] <= now:
            at, _, owner, name = heapq.heappop(self._heap)
            if owner.deadlines.get(name) == at:
                del owner.deadlines[name]
                owner.on_timer(name, now)
            else:
                self._stale -= 1
