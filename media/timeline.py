"""One leg's place on the recording's timeline: RTP timestamps to sample positions.

Sample 0 is the start of capture. A source (SSRC) has an anchor, which its least delayed packets set: position =
timestamp + anchor, so jitter and reordering move nothing. A timestamp that leaves the clock by more than ``JUMP`` is
anchored anew; a clock that runs off slowly (skew) is followed in small steps, by the least delayed packet of the last
seconds. What comes for samples that are already written is late, and counted. Loss is silence, and a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from media.codecs import SAMPLE_RATE, Samples, decode_table
from media.engine import Codec
from media.records import decode_steady, steady_arrival
from media.sequence import Order, SequenceTracker
from media.source import HEADER, Packet, Source, parse_records, record_dtype, unwrap

JUMP = SAMPLE_RATE // 5
"""200 ms: what a timestamp may stray from the clock before it is anchored anew."""
LONGEST_PACKET = SAMPLE_RATE * 6 // 100
SKEW_SLACK = SAMPLE_RATE * 3 // 1000
"""3 ms: what the least delayed packets may stray from the anchor before it follows them."""
SKEW_AT_ONCE = SAMPLE_RATE // 100
"""10 ms too late: the first packets were delayed ones, and the anchor is put right in one step."""
SKEW_WINDOW_NS = 4_000_000_000
SHORT_GAP = SAMPLE_RATE // 500
"""2 ms: a gap that a step of the anchor made; the last sample is held over it."""
FIRST_ROOM = 4 * SAMPLE_RATE
MOST_ROOM = 64 * SAMPLE_RATE
MAX_GAPS = 1000
MAX_SOURCES = 8


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
    skew_samples: int = 0
    codecs: list[str] = field(default_factory=list)


class LegTimeline:
    """Takes ring records, gives samples. Times are CLOCK_MONOTONIC ns, positions samples since ``start_ns``."""

    def __init__(self, start_ns: int) -> None:
        self.counts = LegCounts()
        self._start_ns = start_ns
        self._buffer: Samples = np.zeros(FIRST_ROOM, dtype=np.int16)
        self._base = 0
        self._end = 0
        self._holes: list[tuple[int, int]] = []
        self._gaps_omitted = 0
        self._maps: list[tuple[int, Mapping[int, Codec]]] = []
        self._tables: dict[int, Samples] = {}
        self._sources: dict[int, Source] = {}
        self._latest: Source | None = None
        self._waiting = bytearray()

    def set_codecs(self, codecs: Mapping[int, Codec], at_ns: int) -> None:
        """Payload types of packets that arrive from ``at_ns`` on."""
        self._maps.append((at_ns, dict(codecs)))
        self._tables = {}

    def arrival(self, at_ns: int) -> int:
        """The position of the clock at a time."""
        return (at_ns - self._start_ns) * SAMPLE_RATE // 1_000_000_000

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
        if self.arrival(first) - LONGEST_PACKET < until:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            if not self._begin_steady(waiting):
                self._feed_slowly(waiting)

    def _begin_steady(self, data: bytes) -> bool:
        """The leg's first packets, where they follow on without a break: anchored by the least delayed of them."""
        head = np.frombuffer(data, dtype=record_dtype(HEADER), count=1)[0]
        length, pt = int(head["length"]), int(head["pt"])
        codec = self._codec(pt, int(head["at"]))
        table = decode_table(codec) if codec is not None else None
        ssrc, seq, ts = int(head["ssrc"]), int(head["seq"]), int(head["ts"])
        early = steady_arrival(data, length, ssrc, seq, ts, pt, self._start_ns)
        if codec is None or table is None or early is None:
            return False
        tracker = SequenceTracker(ssrc, seq)
        source = Source(tracker, ts - length, length, pt, anchor=early - length - ts, since=tracker.first)
        self._note_codec(codec, pt, table)
        self._sources[ssrc] = self._latest = source
        self.counts.anchors += 1
        if self._feed_steady(data):
            return True
        self._sources, self._latest, self.counts.anchors = {}, None, 0
        return False

    def _feed_slowly(self, data: bytes) -> None:
        packets = parse_records(data)
        self.counts.captured += len(packets)
        by_source: dict[int, list[Packet]] = {}
        for packet in packets:
            by_source.setdefault(packet.ssrc, []).append(packet)
        for ssrc, theirs in by_source.items():
            self._feed_source(ssrc, theirs)

    def _feed_steady(self, data: bytes) -> bool:
        """The common case: equal packets that follow on without a break."""
        source = self._latest
        if source is None or source.anchor is None:
            return False
        table, length = self._tables.get(source.pt), source.length
        if table is None or not length:
            return False
        ts = source.ts + length
        early = steady_arrival(
            data, length, source.tracker.ssrc, source.tracker.next_seq, ts & 0xFFFFFFFF, source.pt, self._start_ns
        )
        if early is None:
            return False
        size = HEADER + (length + 7) // 8 * 8
        count = len(data) // size
        position = ts + source.anchor
        delay = early - length - position
        # what was said before the recording began has no place in it
        skip = min(count, (-position + length - 1) // length) if position < 0 == self._base else 0
        begin = position + skip * length
        if abs(delay) > JUMP or begin < self._base or not self._make_room(begin + (count - skip) * length):
            return False
        if begin > self._base == 0 and skip:
            self._place_first(data, skip - 1, size, table, begin)
        decode_steady(data, length, skip, table, self._buffer[begin - self._base :])
        self._cover(begin, (count - skip) * length)
        source.tracker.follow(count)
        source.old.clear()
        source.ts = ts + (count - 1) * length
        self.counts.captured += count
        self.counts.placed += count - skip
        self.counts.ignored += skip
        self._follow_skew(source, int.from_bytes(data[-size : 8 - size], "little"), delay)
        return True

    def _place_first(self, data: bytes, index: int, size: int, table: Samples, end: int) -> None:
        """The tail of the packet that was being said when the recording began."""
        payload = np.frombuffer(data, dtype=np.uint8)[index * size + HEADER : (index + 1) * size]
        length = int.from_bytes(data[index * size + 20 : index * size + 22], "little")
        self._fill(0, table[payload[length - end : length]])
        self.counts.placed += 1
        self.counts.ignored -= 1

    def _feed_source(self, ssrc: int, packets: Sequence[Packet]) -> None:
        """Packets of one SSRC as they came: put into the order of their sequence numbers, then placed run by run."""
        source = self._sources.get(ssrc)
        if source is None:
            source = self._sources[ssrc] = Source(SequenceTracker(ssrc, packets[0].seq), packets[0].ts)
            if len(self._sources) > MAX_SOURCES:
                oldest = next(iter(self._sources))
                self._count_source(self._sources.pop(oldest))
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
            ts = unwrap(packet.ts, run[-1][2] if run else source.ts)
            table = self._table(packet)
            if table is None:
                self._place_run(source, run)
                run = []
                source.anchor, source.ts = None, ts
                continue
            if source.anchor is not None and seq <= highest:
                anchor = source.anchor_for(seq)
                self._place_late(packet, table, ts + (source.anchor if anchor is None else anchor))
                continue
            if run and not self._on_line(run[-1], (seq, packet, ts)):
                self._place_run(source, run)
                run = []
            run.append((seq, packet, ts))
        self._place_run(source, run)

    def _on_line(self, one: tuple[int, Packet, int], other: tuple[int, Packet, int]) -> bool:
        """Whether the timestamp went on with the sequence number, or with the clock (a pause)."""
        step = other[2] - one[2]
        by_clock = self.arrival(other[1].at) - self.arrival(one[1].at)
        return step == (other[0] - one[0]) * len(one[1].payload) or abs(step - by_clock) <= JUMP

    def _place_run(self, source: Source, run: list[tuple[int, Packet, int]]) -> None:
        """A run on one timestamp line; anchored by its least delayed packet when it has left the clock."""
        if not run:
            return
        least = min(self.arrival(packet.at) - len(packet.payload) - ts for _, packet, ts in run)
        if source.anchor is None or abs(least - source.anchor) > JUMP:
            source.move_anchor(least, run[0][0])
            self.counts.anchors += 1
        anchor = source.anchor
        assert anchor is not None
        for _, packet, ts in run:
            table = self._table(packet)
            if table is not None:
                self._place(packet, table, ts + anchor)
        seq, last, source.ts = run[-1]
        source.length, source.pt = len(last.payload), last.pt
        source.tracker.placed = seq
        self._follow_skew(source, last.at, least - anchor)

    def _follow_skew(self, source: Source, at: int, delay: int) -> None:
        """Move the anchor towards the least delayed packets of the last seconds, a little at a time.

        ``delay`` is the least delay of a batch behind the anchor, in samples. A negative one is proof that the anchor
        is late; a positive one may be jitter until the whole window says so.
        """
        assert source.anchor is not None
        source.delays = [d for d in source.delays if d[0] > at - SKEW_WINDOW_NS]
        full = bool(source.delays) and source.delays[0][0] <= at - SKEW_WINDOW_NS * 3 // 4
        source.delays.append((at, delay))
        stray = min(d for _, d in source.delays)
        if abs(stray) <= SKEW_SLACK or (stray > 0 and not full):
            return
        step = stray if stray < -SKEW_AT_ONCE else (abs(stray) - SKEW_SLACK + 3) // 4 * (1 if stray > 0 else -1)
        source.anchor += step
        source.delays = [(when, d - step) for when, d in source.delays]
        self.counts.skew_samples += step

    # -- the buffer --------------------------------------------------------------------------------------------------

    def _place_late(self, packet: Packet, table: Samples, position: int) -> None:
        """One that came after its turn; what would have been heard before it was said has no place."""
        if position > self.arrival(packet.at) + JUMP:
            self.counts.ignored += 1
            return
        self._place(packet, table, position)

    def _place(self, packet: Packet, table: Samples, position: int) -> None:
        length = len(packet.payload)
        if position < self._base:  # written already, or before the recording began
            if position + length <= 0:
                self.counts.ignored += 1  # all of it was said before the recording began
            elif position < 0 == self._base:
                self._fill(0, table[packet.payload[-position:]])
                self.counts.placed += 1
            else:
                self.counts.late += 1
            return
        if not self._make_room(position + length):
            self.counts.ignored += 1
            return
        self._fill(position, table[packet.payload])
        self.counts.placed += 1

    def _fill(self, position: int, samples: Samples) -> None:
        at = position - self._base
        self._buffer[at : at + len(samples)] = samples
        self._cover(position, len(samples))

    def _cover(self, position: int, length: int) -> None:
        """Keep the list of what nothing was placed at."""
        end = position + length
        if position > self._end:
            if self._end and position - self._end <= SHORT_GAP and self._end > self._base:
                held = self._end - self._base
                self._buffer[held : position - self._base] = self._buffer[held - 1]
            elif len(self._holes) < MAX_GAPS:
                self._holes.append((self._end, position))
            else:
                self._gaps_omitted += 1
        elif end <= self._end and self._holes:
            self._holes = [part for hole in self._holes for part in _without(hole, position, end)]
        self._end = max(self._end, end)

    def _make_room(self, end: int) -> bool:
        """Whether the buffer reaches to position ``end``, after growing where it may."""
        need = end - self._base
        if need <= len(self._buffer):
            return True
        if need > MOST_ROOM:
            return False
        larger = np.zeros(min(MOST_ROOM, need * 2), dtype=np.int16)
        larger[: len(self._buffer)] = self._buffer
        self._buffer = larger
        return True

    # -- codecs ------------------------------------------------------------------------------------------------------

    def _table(self, packet: Packet) -> Samples | None:
        """How to decode a packet; None, and counted, for what can't be."""
        table = self._tables.get(packet.pt)
        if table is not None and len(self._maps) == 1 and len(packet.payload):
            return table
        codec = self._codec(packet.pt, packet.at)
        if codec is None or not len(packet.payload):
            self.counts.ignored += 1
            return None
        table = decode_table(codec)
        if table is None:
            self.counts.undecodable[codec.name] = self.counts.undecodable.get(codec.name, 0) + 1
            return None
        self._note_codec(codec, packet.pt, table)
        return table

    def _note_codec(self, codec: Codec, pt: int, table: Samples) -> None:
        if codec.name not in self.counts.codecs:
            self.counts.codecs.append(codec.name)
        self._tables[pt] = table

    def _codec(self, pt: int, at: int) -> Codec | None:
        """What the payload type meant when the packet came; else what it meant at any time."""
        for since, codecs in reversed(self._maps):
            if at >= since and pt in codecs:
                return codecs[pt]
        return next((codecs[pt] for _, codecs in self._maps if pt in codecs), None)

    # -- out ---------------------------------------------------------------------------------------------------------

    def take(self, until: int) -> Samples:
        """The samples up to position ``until``; what comes for them later is late."""
        if self._waiting:
            self._feed_waiting(until)
        count = max(0, until - self._base)
        taken = np.zeros(count, dtype=np.int16)
        have = min(count, len(self._buffer))
        taken[:have] = self._buffer[:have]
        if have < len(self._buffer):
            used = max(0, min(self._end - self._base, len(self._buffer)) - have)
            self._buffer[:used] = self._buffer[have : have + used].copy()
            self._buffer[used : used + have] = 0
        else:
            self._buffer = np.zeros(FIRST_ROOM, dtype=np.int16)
        self._base += count
        return taken

    def gaps(self, until: int) -> tuple[list[tuple[int, int]], int]:
        """Where a recording of ``until`` samples has no audio of this leg: ranges of 10 ms or more, and how many more
        there were than are kept."""
        ranges = [*self._holes, (self._end, until)]
        clipped = [(begin, min(end, until)) for begin, end in ranges]
        return [(b, e) for b, e in clipped if e - b >= SAMPLE_RATE // 100], self._gaps_omitted

    def settle(self) -> LegCounts:
        """The counts with those of all sources in them; to be asked for once, at the end."""
        for source in self._sources.values():
            self._count_source(source)
        self._sources = {}
        return self.counts

    def _count_source(self, source: Source) -> None:
        self.counts.expected += source.tracker.expected
        self.counts.unique += source.tracker.unique


def _without(hole: tuple[int, int], begin: int, end: int) -> list[tuple[int, int]]:
    """What is left of a hole when ``begin`` to ``end`` was filled."""
    parts = [(hole[0], min(hole[1], begin)), (max(hole[0], end), hole[1])]
    return [(b, e) for b, e in parts if b < e]
