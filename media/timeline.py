"""One leg's place on the recording's timeline: RTP timestamps to sample positions, packets to samples.

Time 0 is the start of capture. A source (SSRC) counts in ticks of its codec's RTP clock and has an anchor, which its
least delayed packets set: position = timestamp + anchor, so jitter and reordering move nothing. A timestamp that leaves
the clock (``media.source``) is anchored anew; a clock that runs off slowly (skew) is followed in small steps. What
comes for samples that are already written is late, and counted.

What becomes of the audio at its position is told in ``media.audio``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from media.audio import LegAudio, Piece
from media.codecs import SAMPLE_RATE, Format, Samples, format_of
from media.coverage import GRID
from media.engine import Codec
from media.packets import HEADER, Packet, records
from media.records import steady_arrival
from media.sequence import Order, SequenceTracker
from media.source import JUMP, Source, ticks_at

LONGEST_PACKET_NS = 120_000_000
MAX_SOURCES = 8
_NO_FORMAT = Format("", SAMPLE_RATE, SAMPLE_RATE, SAMPLE_RATE)


@dataclass(slots=True)
class LegCounts:
    """What happened to one leg's captured packets."""

    captured: int = 0
    placed: int = 0
    expected: int = 0
    """Packets that the sources' sequence numbers span (RFC 3550 A.3)."""
    unique: int = 0
    """Packets of those that came, each counted once."""
    duplicate: int = 0
    reordered: int = 0
    late: int = 0
    undecodable: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    anchors: int = 0
    skew_ns: int = 0
    """By how much all steps together moved the leg."""
    codecs: list[str] = field(default_factory=list)


class LegTimeline:
    """Takes ring records, gives samples. Times are CLOCK_MONOTONIC ns; positions in the file are samples since
    ``start_ns`` at ``rate``, which may be set until the first call of ``take``.

    ``keep`` is given what comes in a codec that can't be decoded. ``conceal`` False leaves losses silent.
    """

    def __init__(
        self, start_ns: int, rate: int = SAMPLE_RATE, *, keep: Callable[[Packet], None] | None = None,
        conceal: bool = True,
    ) -> None:  # fmt: skip
        self.counts = LegCounts()
        self._audio = LegAudio(rate, conceal)
        self._start_ns = start_ns
        self._keep = keep
        self._maps: list[tuple[int, Mapping[int, Codec]]] = []
        self._formats: dict[int, Format] = {}
        self._sources: dict[int, Source] = {}
        self._latest: Source | None = None
        self._waiting = bytearray()

    # -- what is known -----------------------------------------------------------------------------------------------

    def set_codecs(self, codecs: Mapping[int, Codec], at_ns: int) -> None:
        """Payload types of packets that arrive from ``at_ns`` on."""
        self._maps.append((at_ns, dict(codecs)))
        self._formats = {}

    @property
    def rate(self) -> int:
        """The file's sample rate."""
        return self._audio.rate

    @rate.setter
    def rate(self, rate: int) -> None:
        self._audio.rate = rate

    def heard_rate(self) -> int | None:
        """The file's rate that does justice to what is heard; None before anything came."""
        if self._latest is not None:
            return self._latest.format.file_rate
        for packet in records(bytes(self._waiting)):
            codec = self._codec(packet.pt, packet.at)
            if codec is not None and (found := format_of(codec)) is not None:
                return found.file_rate
        return SAMPLE_RATE if self._waiting else None

    def promised_rate(self) -> int:
        """The same for the first codec that was agreed on."""
        codecs = self._maps[-1][1].values() if self._maps else ()
        return next((found.file_rate for found in map(format_of, codecs) if found is not None), SAMPLE_RATE)

    def interrupt(self) -> None:
        """Audio that is missing from here to the next packet was not captured, or not sent: no loss."""
        self._audio.interrupt()

    def _arrival(self, at_ns: int, clock: int) -> int:
        return ticks_at(at_ns - self._start_ns, clock)

    # -- in ----------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Place a drain's worth of ring records. Never raises for what a sender may send.

        The leg's first packets wait until the first of them has to be written: the more there are to choose the least
        delayed from, the better the anchor.
        """
        if data and self._latest is None:
            self._waiting += data
        elif data and not self._feed_steady(data):
            self._feed_slowly(data)

    def _feed_waiting(self, until: int) -> None:
        """Place the first packets when a sample of theirs is to be written."""
        first = int.from_bytes(self._waiting[:8], "little")
        if self._arrival(first - LONGEST_PACKET_NS, GRID) < until:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            if not self._begin_steady(waiting):
                self._feed_slowly(waiting)

    def _begin_steady(self, data: bytes) -> bool:
        """The leg's first packets, where they follow on without a break: anchored by the least delayed of them."""
        head = next(records(data))
        format_, length = self._format(head, count=False), len(head.payload)
        if format_ is None or not format_.byte_ticks:
            return False
        early = steady_arrival(data, length, head.ssrc, head.seq, head.ts, head.pt, self._start_ns)
        if early is None:
            return False
        tracker = SequenceTracker(head.ssrc, head.seq)
        tracker.placed = tracker.highest
        source = Source(tracker, format_, head.ts - length, length, head.pt, early - length - head.ts, tracker.first)
        self._sources[head.ssrc] = self._latest = source
        self.counts.anchors += 1
        if self._feed_steady(data):
            return True
        self._sources, self._latest, self.counts.anchors = {}, None, 0
        return False

    def _feed_slowly(self, data: bytes) -> None:
        packets = list(records(data))
        self.counts.captured += len(packets)
        by_source: dict[int, list[Packet]] = {}
        for packet in packets:
            by_source.setdefault(packet.ssrc, []).append(packet)
        for ssrc, theirs in by_source.items():
            self._feed_source(ssrc, theirs)

    def _feed_steady(self, data: bytes) -> bool:
        """The common case: equal packets of G.711 or G.722 that follow on without a break."""
        source = self._latest
        if source is None or source.anchor is None or not source.length or source.pt not in self._formats:
            return False
        length, format_ = source.length, source.format
        ts = source.ts + length
        if not format_.byte_ticks or format_ is not self._formats[source.pt]:
            return False
        early = steady_arrival(
            data, length, source.tracker.ssrc, source.tracker.next_seq, ts & 0xFFFFFFFF, source.pt, self._start_ns
        )
        if early is None:
            return False
        size = HEADER + (length + 7) // 8 * 8
        count = len(data) // size
        position = ts + source.anchor
        delay = early - length - position
        base = self._audio.base * format_.clock_rate // GRID
        # what was said before the recording began has no place in it
        skip = min(count, (-position + length - 1) // length) if position < 0 == base else 0
        begin = position + skip * length
        if abs(delay) * JUMP > format_.clock_rate or begin < base:
            return False
        ssrc, seq = source.tracker.ssrc, source.tracker.highest + 1 + skip
        if not self._audio.place_steady(ssrc, format_, seq, begin, length, data, skip, count - skip):
            return False
        source.tracker.follow(count)
        source.old.clear()
        source.ts = ts + (count - 1) * length
        self.counts.captured += count
        self.counts.placed += count - skip
        self.counts.ignored += skip
        if begin > base == 0 and skip:
            self._place_first(source, data[(skip - 1) * size : skip * size], begin)
        self._follow_skew(source, int.from_bytes(data[-size : 8 - size], "little"), delay)
        return True

    def _place_first(self, source: Source, record: bytes, end: int) -> None:
        """The packet that was being said when the recording began, which ends at ``end``."""
        payload = next(records(record)).payload
        seq = source.tracker.highest
        self._audio.place(Piece(source.tracker.ssrc, source.format, seq, end - len(payload), len(payload), payload))
        self.counts.placed += 1
        self.counts.ignored -= 1

    def _feed_source(self, ssrc: int, packets: Sequence[Packet]) -> None:
        """Packets of one SSRC as they came: put into the order of their sequence numbers, then placed run by run."""
        source = self._sources.get(ssrc)
        if source is None:
            source = self._sources[ssrc] = Source(SequenceTracker(ssrc, packets[0].seq), _NO_FORMAT, packets[0].ts)
            if len(self._sources) > MAX_SOURCES:
                oldest = next(iter(self._sources))
                self._count_source(self._sources.pop(oldest))
                self._audio.forget(oldest)
        self._latest = source
        fresh: list[tuple[int, Packet]] = []
        for packet in packets:
            seq, order = source.tracker.take(packet.seq)
            if order is Order.RESTART:
                self._place_fresh(source, fresh)
                fresh = []
                source.anchor, source.before = None, []
            elif order is not Order.NEXT and source.begins_anew(packet):
                self._place_fresh(source, fresh)
                fresh = self._from_anew(source)
                continue
            if order in (Order.NEXT, Order.RESTART):
                source.old.clear()
            if order is Order.DUPLICATE:
                self.counts.duplicate += 1
                continue
            self.counts.reordered += order is Order.EARLIER
            fresh.append((seq, packet))
        self._place_fresh(source, fresh)

    def _from_anew(self, source: Source) -> list[tuple[int, Packet]]:
        """The packets since the new beginning, which were taken for duplicates."""
        packets, source.old_packets = source.old_packets, []
        source.old.clear()
        source.anchor, source.before = None, []
        self.counts.duplicate = max(0, self.counts.duplicate - len(packets) + 1)
        first = source.tracker.restart(packets[0].seq)
        return [(first, packets[0]), *((source.tracker.take(packet.seq)[0], packet) for packet in packets[1:])]

    def _place_fresh(self, source: Source, fresh: list[tuple[int, Packet]]) -> None:
        """Split into runs on one timestamp line each, and place them; what came after its time goes singly."""
        fresh.sort(key=lambda item: item[0])
        highest = source.since if source.anchor is None else source.tracker.placed
        run: list[tuple[int, Packet, int]] = []
        for seq, packet in fresh:
            ts = _unwrap(packet.ts, run[-1][2] if run else source.ts)
            format_ = self._format(packet)
            if format_ is None:
                self._place_run(source, run)
                run = []
                source.anchor, source.ts = None, ts
                self._audio.interrupt()
                continue
            if source.anchor is not None and seq <= highest:
                self._place_late(source, seq, packet, format_, ts)
                continue
            if format_ is not source.format and not (run and format_ is self._format_of_run(run)):
                self._place_run(source, run)
                run = []
                source.change(format_, seq, ts)
            elif run and not self._on_line(source, run[-1], (seq, packet, ts)):
                self._place_run(source, run)
                run = []
            run.append((seq, packet, ts))
        self._place_run(source, run)

    def _format_of_run(self, run: list[tuple[int, Packet, int]]) -> Format | None:
        return self._format(run[-1][1], count=False)

    def _on_line(self, source: Source, one: tuple[int, Packet, int], other: tuple[int, Packet, int]) -> bool:
        """Whether the timestamp went on with the sequence number, or with the clock (a pause)."""
        step = other[2] - one[2]
        by_clock = self._arrival(other[1].at, source.clock) - self._arrival(one[1].at, source.clock)
        length = source.format.ticks(one[1].payload)
        return step == (other[0] - one[0]) * length or abs(step - by_clock) * JUMP <= source.clock

    def _place_run(self, source: Source, run: list[tuple[int, Packet, int]]) -> None:
        """A run on one timestamp line; anchored by its least delayed packet when it has left the clock."""
        ticks = source.format.ticks
        anchors = [self._arrival(packet.at, source.clock) - ticks(packet.payload) - ts for _, packet, ts in run]
        begin = 0
        for end in (*self._pauses(source, anchors), len(run)):
            if begin < end:
                self._place_part(source, run[begin:end], anchors[begin:end])
            begin = end

    def _pauses(self, source: Source, anchors: list[int]) -> list[int]:
        """Where in a run the sender paused with its timestamps standing still."""
        found: list[int] = []
        begin = 0
        for index in range(1, len(anchors)):
            if (anchors[index] - anchors[index - 1]) * JUMP <= source.clock:
                continue
            if source.paused(anchors[index:], min(anchors[begin:index])):
                found.append(index)
                begin = index
        return found

    def _place_part(self, source: Source, run: list[tuple[int, Packet, int]], anchors: list[int]) -> None:
        ticks = source.format.ticks
        least = min(anchors)
        moved = source.strays(anchors, run[0][0], run[0][2])
        if moved:
            source.move_anchor(least, run[0][0])
            self.counts.anchors += 1
        anchor = source.anchor
        assert anchor is not None
        for seq, packet, ts in run:
            lost = not moved and not packet.marker and seq > source.tracker.placed + 1 and source.follows(seq, ts)
            length = ticks(packet.payload)
            self._place(source, seq, packet, ts + anchor, length, lost)
            source.ts, source.length, source.pt, source.tracker.placed, moved = ts, length, packet.pt, seq, False
        self._follow_skew(source, run[-1][1].at, least - anchor)

    def _place_late(self, source: Source, seq: int, packet: Packet, format_: Format, ts: int) -> None:
        """A packet that came after its turn; what would have been heard before it was said has no place."""
        anchor = source.anchor_for(seq)
        if format_.clock_rate != source.clock or anchor is None:
            self.counts.late += 1
        elif ts + anchor > self._arrival(packet.at, source.clock) + source.clock // JUMP:
            self.counts.ignored += 1
        else:
            self._place(source, seq, packet, ts + anchor, format_.ticks(packet.payload), False, format_)

    def _follow_skew(self, source: Source, at: int, delay: int) -> None:
        if step := source.follow_skew(at, delay):
            self.counts.skew_ns += step * 1_000_000_000 // source.clock

    def _place(
        self, source: Source, seq: int, packet: Packet, position: int, ticks: int, lost: bool,
        format_: Format | None = None,
    ) -> None:  # fmt: skip
        """Put one packet's audio at its place, or count why not."""
        piece = Piece(source.tracker.ssrc, format_ or source.format, seq, position, ticks, packet.payload)
        base = self._audio.base
        if piece.begin < base and not (base == 0 and piece.end > 0):
            # written already; or all of it was said before the recording began
            self.counts.late += base > 0
            self.counts.ignored += base == 0
        elif self._audio.place(piece, lost):
            self.counts.placed += 1
        else:
            self.counts.ignored += 1

    # -- codecs ------------------------------------------------------------------------------------------------------

    def _format(self, packet: Packet, *, count: bool = True) -> Format | None:
        """How to decode a packet; None, and counted, for what can't be."""
        known = self._formats.get(packet.pt)
        name = known.name if known is not None else ""
        if known is None or len(self._maps) > 1:
            codec = self._codec(packet.pt, packet.at)
            known = format_of(codec) if codec is not None else None
            name = codec.name if codec is not None else ""
        if known is not None and known.ticks(packet.payload):
            if self._formats.get(packet.pt) is not known:
                self._formats[packet.pt] = known
                if known.name not in self.counts.codecs:
                    self.counts.codecs.append(known.name)
            return known
        if count and not (name and packet.payload):
            self.counts.ignored += 1
        elif count:
            self.counts.undecodable[name] = self.counts.undecodable.get(name, 0) + 1
            if self._keep is not None and known is None:
                self._keep(packet)
        return None

    def _codec(self, pt: int, at: int) -> Codec | None:
        """What the payload type meant when the packet came; else what it meant at any time."""
        for since, codecs in reversed(self._maps):
            if at >= since and pt in codecs:
                return codecs[pt]
        return next((codecs[pt] for _, codecs in self._maps if pt in codecs), None)

    # -- out ---------------------------------------------------------------------------------------------------------

    def take(self, until: int) -> Samples:
        """The file's samples up to position ``until``; what comes for them later is late."""
        if self._waiting:
            self._feed_waiting(until * GRID // self.rate)
        return self._audio.take(until)

    def gaps(self, until: int) -> tuple[list[tuple[int, int]], int]:
        """Where a recording of ``until`` samples has no audio that came from this leg: ranges of 10 ms or more, and how
        many more there were than are kept."""
        return self._audio.gaps(until)

    def concealed(self, until: int) -> tuple[list[tuple[int, int]], int]:
        """The parts of the gaps that were filled, and how many more there were than are kept."""
        return self._audio.concealed(until)

    def settle(self) -> LegCounts:
        """The counts with those of all sources in them; to be asked for once, at the end."""
        for source in self._sources.values():
            self._count_source(source)
        self._sources = {}
        for name, count in self._audio.damaged.items():
            self.counts.undecodable[name] = self.counts.undecodable.get(name, 0) + count
        return self.counts

    def _count_source(self, source: Source) -> None:
        self.counts.expected += source.tracker.expected
        self.counts.unique += source.tracker.unique


def _unwrap(value: int, near: int) -> int:
    """The 32-bit ``value`` as the whole number next to ``near``."""
    return near + ((value - near + 0x80000000) & 0xFFFFFFFF) - 0x80000000
