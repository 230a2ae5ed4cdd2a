"""Overload: new calls are refused (503, RFC 3261 §21.5.4) before those that are up suffer.

The measure is how late work is done: how long a message lay in the socket's buffer, or a timer was overdue. What counts
is lateness that stands (as in CoDel, RFC 8289): as long as there is a moment in each second when work is up to date, a
stall was a stall and nobody is refused. While it stands over the target, a growing share of new calls is refused; while
it does not, the share shrinks again.
"""

from __future__ import annotations

from collections import deque


class Overload:
    """``sample`` it about ten times a second; ``shed`` says for each new call whether to refuse it."""

    def __init__(
        self, target: float = 0.3, *, interval: float = 0.1, standing: int = 8, up: float = 0.03, down: float = 0.01
    ) -> None:
        """``target``: seconds of lateness that are borne; ``standing``: in how many intervals of ``interval`` seconds
        in a row it must be over the target; ``up`` and ``down``: how fast the share moves in each of them."""
        self._target, self._interval = target, interval
        self._up, self._down = up, down
        self._worst = 0.0
        self._recent: deque[float] = deque(maxlen=standing)
        self._at: float | None = None
        self._due = 0.0
        self.share = 0.0
        """Which share of new calls is refused, 0 to 1."""

    def sample(self, late: float, now: float) -> None:
        """Something was done ``late`` seconds late."""
        self._worst = max(self._worst, late)
        if self._at is None:
            self._at = now
        if now - self._at < self._interval:
            return
        self._recent.append(self._worst)
        least = min(self._recent) if len(self._recent) == self._recent.maxlen else 0.0
        if least > self._target:
            self.share = min(1.0, self.share + self._up * min(least / self._target, 5.0))
        elif self._worst <= self._target:
            steps = min((now - self._at) / self._interval, 50.0)
            self.share = max(0.0, self.share - self._down * steps)
        self._worst, self._at = 0.0, now

    def shed(self) -> bool:
        """Whether this new call is one of those to be refused: evenly spread, without chance."""
        self._due += self.share
        if self._due < 1.0 or not self.share:
            return False
        self._due -= 1.0
        return True

    @property
    def retry_after(self) -> int:
        """Seconds for Retry-After: the worse it is, the longer."""
        return 2 + round(self.share * 18)
