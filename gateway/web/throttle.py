"""How often somebody may try: a bounded sliding window by key, in memory."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable


class Throttle:
    """At most ``attempts`` per ``seconds`` and key; ``size`` keys are remembered, the oldest forgotten."""

    def __init__(
        self, attempts: int = 20, seconds: float = 60.0, size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._attempts = attempts
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until ``key`` may try again; 0: now, and this was counted as a try."""
        now = self._clock()
        tries = self._seen.setdefault(key, deque())
        self._seen.move_to_end(key)
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)
        while tries and tries[0] <= now - self._seconds:
            tries.popleft()
        if len(tries) >= self._attempts:
            return tries[0] + self._seconds - now
        tries.append(now)
        return 0.0

    def forgive(self, key: str) -> None:
        """Forget the tries of ``key``: it has shown who it is."""
        self._seen.pop(key, None)
