"""One RTP source (SSRC) of a leg: its sequence numbers, and the anchor that turns its timestamps into time.

Times are ticks of the source's RTP clock since the recording began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from media.codecs import Format
from media.packets import Packet
from media.sequence import OldRun, SequenceTracker

JUMP = 5
"""1/5 s: what a timestamp may stray from the clock before it is anchored anew."""
STALL_TENTHS = 7
"""0.7 s: what a few packets that follow on without a break may be delayed together before they count as a pause."""
PAUSED, EVENLY = 30, 10
"""So many packets on end that are all late by ``JUMP`` are no network's doing but a sender's that paused with its
timestamps standing still; fewer will do where they come evenly (a network that was held up delivers in a burst)."""
EVEN_MS = 60
SKEW_SLACK_MS = 3
"""What the least delayed packets may stray from the anchor before it follows them."""
SKEW_AT_ONCE_MS = 10
"""So much too late: the first packets were delayed ones, and the anchor is put right in one step."""
SKEW_WINDOW_NS = 4_000_000_000


_BY_DELAY = itemgetter(1)


def ticks_at(ns: int, clock: int) -> int:
    """Nanoseconds since the recording began as ticks of a clock."""
    return ns * clock // 1_000_000_000


@dataclass(slots=True)
class Source:
    """``ts`` and ``anchor`` are unwrapped: position = ts + anchor."""

    tracker: SequenceTracker
    format: Format
    """Set by ``change``."""
    ts: int
    """Of the last packet that was placed."""
    length: int = 0
    """Its ticks."""
    pt: int = -1
    anchor: int | None = None
    since: int = 0
    """Extended sequence number from which on the anchor holds."""
    before: list[tuple[int, int]] = field(default_factory=list)
    """Earlier anchors and the sequence numbers they held from, for what comes late."""
    delays: list[tuple[int, int]] = field(default_factory=list)
    """Least delay of each batch: (arrival in ns, ticks behind the anchor)."""

    old: OldRun = field(default_factory=OldRun)
    old_packets: list[Packet] = field(default_factory=list)
    """Those that ``old`` watches."""
    clock: int = field(init=False)
    """RTP ticks in a second."""
    _slack: int = field(init=False)

    def __post_init__(self) -> None:
        self._tick()

    def _tick(self) -> None:
        self.clock = self.format.clock_rate
        self._slack = SKEW_SLACK_MS * self.clock // 1000

    def anchor_for(self, seq: int) -> int | None:
        """The anchor that held at an extended sequence number."""
        if seq >= self.since or not self.before:
            return self.anchor
        return next((anchor for since, anchor in reversed(self.before) if seq >= since), self.before[0][1])

    def move_anchor(self, anchor: int, since: int) -> None:
        if self.anchor is not None:
            self.before = [*self.before[-3:], (self.since, self.anchor)]
        self.anchor, self.since, self.delays = anchor, since, []

    def begins_anew(self, packet: Packet) -> bool:
        """Whether a packet with an old number shows that the sender has begun anew, with ``old_packets``."""
        anew = self.old.take(packet.seq, packet.at)
        kept = self.old_packets[1 - self.old.packets :] if self.old.packets > 1 else []
        self.old_packets = [*kept, packet]
        return anew

    def follows(self, seq: int, ts: int) -> bool:
        """Whether a packet's timestamp goes on with the sequence number from the last one's."""
        return ts - self.ts == (seq - self.tracker.placed) * self.length

    def strays(self, anchors: Sequence[int], seq: int, ts: int) -> bool:
        """Whether a run that begins with ``seq`` and ``ts`` has left the clock: ``anchors`` are those that each of its
        packets would set."""
        if self.anchor is None:
            return True
        late = min(anchors) - self.anchor
        if late > 0 and self.follows(seq, ts):
            return late * 10 > STALL_TENTHS * self.clock or self.paused(anchors, self.anchor)
        return abs(late) * JUMP > self.clock

    def paused(self, anchors: Sequence[int], before: int) -> bool:
        """Whether packets that follow on show that the sender paused after those that set the anchor ``before``."""
        least = min(anchors)
        even = (max(anchors) - least) * 1000 <= EVEN_MS * self.clock
        return (least - before) * JUMP > self.clock and len(anchors) >= (EVENLY if even else PAUSED)

    def change(self, format_: Format, seq: int, ts: int) -> None:
        """Another codec from ``seq`` and ``ts`` on. Where its clock is another one too, it is expected to go on where
        the last packet ended."""
        if self.anchor is not None and format_.clock_rate != self.clock:
            missing = max(0, seq - self.tracker.placed - 1)
            end = self.ts + self.anchor + (1 + missing) * self.length
            self.before, self.delays = [], []
            self.anchor, self.since = end * format_.clock_rate // self.clock - ts, seq
            self.length = self.length * format_.clock_rate // self.clock
        self.format = format_
        self._tick()

    def follow_skew(self, at: int, delay: int) -> int:
        """Move the anchor towards the least delayed packets of the last seconds, a little at a time; gives the step.

        ``delay`` is the least delay of a batch behind the anchor. A negative one is proof that the anchor is late; a
        positive one may be jitter until the whole window says so.
        """
        assert self.anchor is not None
        delays, slack = self.delays, self._slack
        while delays and delays[0][0] <= at - SKEW_WINDOW_NS:
            del delays[0]
        full = bool(delays) and delays[0][0] <= at - SKEW_WINDOW_NS * 3 // 4
        delays.append((at, delay))
        stray = min(delays, key=_BY_DELAY)[1]
        if abs(stray) <= slack or (stray > 0 and not full):
            return 0
        if stray < -SKEW_AT_ONCE_MS * self.clock // 1000:
            step = stray
        else:
            step = (abs(stray) - slack + 3) // 4 * (1 if stray > 0 else -1)
        self.anchor += step
        self.delays = [(when, d - step) for when, d in delays]
        return step
