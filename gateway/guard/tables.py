"""Bounded memory of who did what: token buckets, things that expire, bans. Times are seconds of the caller's clock.

Every table forgets its oldest entries when it is full, so that no flood of invented addresses can fill the memory; what
was forgotten starts afresh.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Buckets(Generic[K]):
    """A token bucket for each key: ``burst`` at once, ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: float, size: int = 20_000) -> None:
        self._rate, self._burst, self._size = rate, max(burst, 1.0), size
        self._levels: OrderedDict[K, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: K, now: float) -> bool:
        """Take one token, if there is one."""
        level, at = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - at) * self._rate)
        enough = level >= 1.0
        self._levels[key] = (level - 1.0 if enough else level, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._size:
            self._levels.popitem(last=False)
        return enough

    def refill(self, key: K) -> None:
        """As if it had never taken any."""
        self._levels.pop(key, None)


class Expiring(Generic[K]):
    """Keys that are in until a time."""

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._until: OrderedDict[K, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def put(self, key: K, until: float) -> None:
        """Put a key in, or keep it in for longer."""
        self._until[key] = max(until, self._until.get(key, until))
        self._until.move_to_end(key)
        if len(self._until) > self._size:
            self._until.popitem(last=False)

    def has(self, key: K, now: float) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if until <= now:
            del self._until[key]
            return False
        return True

    def drop(self, key: K) -> None:
        self._until.pop(key, None)

    def sweep(self, now: float) -> None:
        """Drop what has expired."""
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]


@dataclass(slots=True)
class _Record:
    """What a key has done wrong."""

    strikes: int = 0
    first: float = 0.0
    until: float = 0.0
    times: int = 0


class Bans(Generic[K]):
    """``failures`` strikes within ``window`` seconds ban a key for ``seconds``, twice as long each time that it comes
    back soon after, up to ``longest``."""

    def __init__(
        self, failures: int, window: float, seconds: float, *, longest: float = 86_400.0, size: int = 20_000
    ) -> None:
        self._failures, self._window, self._seconds = failures, window, seconds
        self._longest, self._size = longest, size
        self._records: OrderedDict[K, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def strike(self, key: K, now: float) -> bool:
        """Count one failure; True when it brings about a ban."""
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        if len(self._records) > self._size:
            self._records.popitem(last=False)
        if now - record.first > self._window:
            record.strikes, record.first = 0, now
        record.strikes += 1
        if record.strikes < self._failures or record.until > now:
            return False
        lately = record.until and now - record.until < 2 * self._seconds
        record.times = record.times + 1 if lately else 1
        record.until = now + min(self._longest, self._seconds * 2.0 ** min(record.times - 1, 30))
        record.strikes = 0
        return True

    def banned(self, key: K, now: float) -> bool:
        record = self._records.get(key)
        return record is not None and record.until > now

    def forgive(self, key: K, now: float) -> None:
        """It has proved itself: its strikes are forgotten; a ban stays."""
        record = self._records.get(key)
        if record is not None and record.until <= now:
            del self._records[key]

    def count(self, now: float) -> int:
        """How many are banned."""
        return sum(record.until > now for record in list(self._records.values()))


class Quota(Generic[K]):
    """How many of something each key has at once."""

    def __init__(self) -> None:
        self._held: Counter[K] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, key: K) -> int:
        return self._held[key]

    def take(self, key: K, limit: int) -> bool:
        """One more, unless there are ``limit`` (0: no limit)."""
        if limit and self._held[key] >= limit:
            return False
        self._held[key] += 1
        return True

    def release(self, key: K) -> None:
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]
