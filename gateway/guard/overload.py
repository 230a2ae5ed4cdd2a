"""Overload: new calls are refused (503, RFC 3261 §21.5.4) before those that are up suffer.

The measure is how late work is done: how long a message lay in the socket's buffer, or a timer was overdue. While that
is over the target, a growing share of new calls is refused; while it is under it, the share shrinks again.
"""

from __future__ import annotations


class Overload:
    """``sample`` it at least once a second; ``shed`` says for each new call whether to refuse it."""

    def __init__(self, target: float = 0.2, *, interval: float = 0.1, up: float = 0.08, down: float = 0.02) -> None:
        """``target``: seconds of lateness that are borne; ``up`` and ``down``: how fast the share moves in each
        ``interval`` seconds."""
        self._target, self._interval = target, interval
        self._up, self._down = up, down
        self._worst = 0.0
        self._at = float("-inf")
        self._due = 0.0
        self.share = 0.0
        """Which share of new calls is refused, 0 to 1."""

    def sample(self, late: float, now: float) -> None:
        """Something was done ``late`` seconds late."""
        self._worst = max(self._worst, late)
        if self._at == float("-inf"):
            self._at = now
        if now - self._at < self._interval:
            return
        if self._worst > self._target:
            self.share = min(1.0, self.share + self._up * min(self._worst / self._target, 5.0))
        else:
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
