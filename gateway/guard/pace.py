"""How slow one connection may be, and how many there may be of them: slowloris, idlers, hoarders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of TCP and TLS connections; seconds, and numbers."""

    connections: int = 4000
    """All that there may be at once."""
    per_source: int = 100
    """From one address that is not known."""
    message: float = 10.0
    """From the first byte of a message to its last."""
    unproven: float = 30.0
    """How long somebody unknown may stay connected."""
    idle: float = 7500.0
    """How long somebody known may say nothing: longer than a registration may last."""
    write: float = 10.0
    """How long the far side may leave unread what fills the buffers."""
    handshake: float = 5.0


class Pace:
    """One connection's clock. It is told what happens and answers when, and why, the connection is to be closed."""

    __slots__ = ("_blocked_since", "_heard", "_limits", "_made", "_started")

    def __init__(self, limits: StreamLimits, now: float) -> None:
        self._limits = limits
        self._made = self._heard = now
        self._started: float | None = None
        self._blocked_since: float | None = None

    def received(self, now: float, *, whole: bool, rest: bool) -> None:
        """Bytes came in; ``whole``: a message became complete, ``rest``: the beginning of another one is waiting."""
        self._heard = now
        if not rest:
            self._started = None
        elif whole or self._started is None:
            self._started = now

    def blocked(self, now: float) -> None:
        """The far side has stopped reading."""
        self._blocked_since = now

    def unblocked(self) -> None:
        self._blocked_since = None

    def verdict(self, now: float, *, known: bool) -> tuple[str, float]:
        """Why it is to be closed now ("": it is not), and when to ask again.

        ``known``: the far side is configured, or has proved itself lately."""
        limits = self._limits
        until = [
            ("idle", self._heard + limits.idle) if known else ("unproven", self._made + limits.unproven),
        ]
        if self._started is not None:
            until.append(("slow to send", self._started + limits.message))
        if self._blocked_since is not None:
            until.append(("slow to read", self._blocked_since + limits.write))
        reason, at = min(until, key=lambda one: one[1])
        return (reason, now) if at <= now else ("", min(at, now + limits.unproven))


class ConnectionTable:
    """How many connections there are, those in their handshake included."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._by_host: Counter[str] = Counter()
        self.total = 0

    def admit(self, host: str, *, known: bool) -> bool:
        """Whether one more may come from ``host``; if so it counts until ``release``."""
        if self.total >= self._limits.connections:
            return False
        if not known and self._by_host[host] >= self._limits.per_source:
            return False
        self.take(host)
        return True

    def take(self, host: str) -> None:
        """One that we opened ourselves."""
        self.total += 1
        self._by_host[host] += 1

    def release(self, host: str) -> None:
        self.total -= 1
        self._by_host[host] -= 1
        if self._by_host[host] <= 0:
            del self._by_host[host]
