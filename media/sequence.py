"""RTP sequence numbers (RFC 3550 A.1): which packet is new, came before its turn, twice, or begins anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

MAX_DROPOUT = 3000
MAX_MISORDER = 100
MAX_MISSING = 4096
ANEW_PACKETS = 8
ANEW_NS = 50_000_000


class Order(Enum):
    """How a sequence number stands to what came before."""

    NEXT = "next"
    """New, after everything before; numbers may be missing in between."""
    EARLIER = "earlier"
    """New, but after one that follows it."""
    DUPLICATE = "duplicate"
    RESTART = "restart"
    """So far off that the sender must have begun anew."""


@dataclass(slots=True)
class SequenceTracker:
    """One source's sequence numbers, extended beyond 16 bits.

    ``placed`` belongs to whoever places packets: the highest extended number that has its place.
    """

    ssrc: int
    first: int
    highest: int = -1
    unique: int = 0
    placed: int = -1
    _spanned: int = 0
    _missing: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.first += 0x10000  # so that an earlier one than the first is no negative number
        self.highest = self.first - 1

    @property
    def next_seq(self) -> int:
        """The sequence number that would follow on."""
        return (self.highest + 1) & 0xFFFF

    @property
    def expected(self) -> int:
        """How many packets the numbers span, those of earlier beginnings included."""
        return self._spanned + self.highest - self.first + 1

    def follow(self, count: int) -> None:
        """``count`` packets came that follow on without a gap."""
        self.highest += count
        self.unique += count
        self.placed = self.highest

    def take(self, seq: int) -> tuple[int, Order]:
        """The extended number of ``seq``, and how it stands to those before."""
        step = ((seq - self.highest + 0x8000) & 0xFFFF) - 0x8000
        extended = self.highest + step
        if 0 < step <= MAX_DROPOUT:
            self._miss(range(self.highest + 1, extended))
            self.highest = extended
            self.unique += 1
            return extended, Order.NEXT
        if extended in self._missing:
            self._missing.discard(extended)
            self.unique += 1
            return extended, Order.EARLIER
        if self.first - MAX_MISORDER <= extended < self.first:
            self._miss(range(extended + 1, self.first))
            self.first = extended
            self.unique += 1
            return extended, Order.EARLIER
        if -MAX_MISORDER * 10 <= step <= 0:
            return extended, Order.DUPLICATE
        return self.restart(seq), Order.RESTART

    def restart(self, seq: int) -> int:
        """The sender has begun anew with ``seq``; its extended number, which is beyond all before."""
        self._spanned = self.expected
        self._missing.clear()
        self.first = self.highest = (self.highest & ~0xFFFF) + 0x10000 + seq
        self.unique += 1
        return self.highest

    def _miss(self, numbers: range) -> None:
        self._missing.update(numbers)
        if len(self._missing) > MAX_MISSING:
            self._missing = set(sorted(self._missing)[-MAX_MISSING // 2 :])


class OldRun:
    """Watches for a sender that begins anew with numbers that were used just now: they look like duplicates.

    What a network sends twice comes between new packets, or all at once; what a sender sends comes in its own time.
    """

    def __init__(self) -> None:
        self.packets = 0
        self._next = -1
        self._since = 0

    def clear(self) -> None:
        """A new number came."""
        self.packets = 0

    def take(self, seq: int, at_ns: int) -> bool:
        """An old number came at ``at_ns``; whether the last ``packets`` of them, in a row, are a new beginning."""
        if not self.packets or seq != self._next:
            self.packets, self._since = 0, at_ns
        self.packets += 1
        self._next = (seq + 1) & 0xFFFF
        return self.packets >= ANEW_PACKETS and at_ns - self._since >= ANEW_NS
