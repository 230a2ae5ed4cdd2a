"""What of a leg's timeline has audio: holes that may still be filled, final gaps, stretches that were concealed.

Positions are ticks of 48 kHz since the recording began (``GRID``), whatever the codecs' rates are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

GRID = 48000
SHORT_GAP = GRID // 500
"""2 ms: a gap that a step of the anchor made; the last sample is held over it, and it is none."""
MAX_GAPS = 50_000

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch without audio. ``lost``: packets are missing there, and it may be concealed; else nothing was sent."""

    begin: int
    end: int
    lost: bool


class Coverage:
    """Told what is placed (``cover``) and what was written (``settle``), it keeps the list of the rest."""

    def __init__(self) -> None:
        self.end = 0
        """Where the last audio ends."""
        self.settled = 0
        self.holes: list[Hole] = []
        self.omitted = 0
        """Gaps that were more than are kept."""
        self.concealed_omitted = 0
        self._gaps: Ranges = []
        self._concealed: Ranges = []
        self._broken = False

    def interrupt(self) -> None:
        """What follows the last audio is no loss: a pause of capture, a hold."""
        self._broken = True

    def cover(self, begin: int, end: int, lost: bool = False) -> None:
        """Audio from ``begin`` to ``end``. ``lost``: packets are missing between the last audio and this."""
        if begin > self.end:
            if not self.settled < self.end >= begin - SHORT_GAP:
                self.holes.append(Hole(self.end, begin, lost and not self._broken))
        elif end <= self.end and self.holes:
            self.holes = [part for hole in self.holes for part in _without(hole, begin, end)]
        if end > self.end:
            self.end, self._broken = end, False

    def lost_before(self, until: int, ahead: int = 0) -> list[Hole]:
        """The holes that begin before ``until + ahead`` and are losses; the last may be open: nothing came after it
        yet, and it began before ``until``."""
        found = [hole for hole in self.holes if hole.lost and hole.begin < until + ahead] if self.holes else []
        if 0 < self.end < until and not self._broken:
            found.append(Hole(self.end, -1, True))
        return found

    def note_concealed(self, begin: int, end: int) -> None:
        """A stretch was filled; one that goes on where the last ended is one with it."""
        if self._concealed and self._concealed[-1][1] == begin:
            self._concealed[-1] = self._concealed[-1][0], end
        elif len(self._concealed) < MAX_GAPS:
            self._concealed.append((begin, end))
        else:
            self.concealed_omitted += 1

    def settle(self, until: int) -> None:
        """Everything before ``until`` is written: holes there are gaps for ever."""
        self.settled = until
        final = [hole for hole in self.holes if hole.end <= until]
        if final:
            self.holes = [hole for hole in self.holes if hole.end > until]
            room = max(0, MAX_GAPS - len(self._gaps))
            self._gaps += [(hole.begin, hole.end) for hole in final[:room]]
            self.omitted += len(final[room:])

    def gaps(self, until: int) -> Ranges:
        """All of a recording that ends at ``until``, those that are still open too."""
        open_ones = [*((hole.begin, hole.end) for hole in self.holes), (self.end, until)]
        return _clipped([*self._gaps, *open_ones], until)

    def concealed(self, until: int) -> Ranges:
        return _clipped(self._concealed, until)


def _clipped(ranges: Iterable[tuple[int, int]], until: int) -> Ranges:
    return [(begin, min(end, until)) for begin, end in ranges if begin < min(end, until)]


def _without(hole: Hole, begin: int, end: int) -> list[Hole]:
    """What is left of a hole when ``begin`` to ``end`` was filled."""
    parts = Hole(hole.begin, min(hole.end, begin), hole.lost), Hole(max(hole.begin, end), hole.end, hole.lost)
    return [part for part in parts if part.begin < part.end]
