"""One leg's place on the recording's timeline: RTP timestamps to sample positions.

Sample 0 is the start of capture. A run of packets with one SSRC and unbroken timestamps is anchored by its least
delayed packet: position = timestamp + anchor, so jitter moves nothing. What breaks a run (another SSRC, a timestamp
that jumps against the clock) is anchored anew. Clock skew is taken out gradually, a few samples a second. A packet
that would lie before what was already written is late, one beyond the present is pulled back to it: no sender can make
a file longer than its call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.codecs import SAMPLE_RATE, Samples, decode_table
from media.engine import Codec

HEADER = 24
JUMP = SAMPLE_RATE // 5
"""200 ms: what a timestamp may stray from the clock before the run is anchored anew."""
SKEW_STEP = 8
"""Samples of skew taken out in one batch at most (1 ms)."""
MAX_GAPS = 1000
_PER_NS = SAMPLE_RATE / 1e9

_FIELDS: dict[str, Any] = {
    "names": ["at", "ts", "ssrc", "seq", "pt", "flags", "length"],
    "formats": ["<u8", "<u4", "<u4", "<u2", "u1", "u1", "<u2"],
    "offsets": [0, 8, 12, 16, 18, 19, 20],
}
_DTYPES: dict[int, np.dtype[Any]] = {}


def _dtype(size: int) -> np.dtype[Any]:
    found = _DTYPES.get(size)
    if found is None:
        found = _DTYPES[size] = np.dtype({**_FIELDS, "itemsize": size})  # type: ignore[call-overload]
    return found


@dataclass(slots=True)
class LegCounts:
    """What happened to one leg's captured packets."""

    captured: int = 0
    placed: int = 0
    lost: int = 0
    duplicate: int = 0
    reordered: int = 0
    late: int = 0
    undecodable: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    anchors: int = 0
    skew_samples: int = 0
    codecs: list[str] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    gaps_omitted: int = 0


@dataclass(frozen=True, slots=True)
class _Packet:
    at: int
    ts: int
    ssrc: int
    seq: int
    pt: int
    payload: NDArray[np.uint8]


class LegTimeline:
    """Takes ring records, gives samples. Times are CLOCK_MONOTONIC ns, positions samples since ``start_ns``."""

    def __init__(self, start_ns: int, *, room: int = 4 * SAMPLE_RATE) -> None:
        self.counts = LegCounts()
        self._start_ns = start_ns
        self._room = room
        self._buffer: Samples = np.zeros(room, dtype=np.int16)
        self._base = 0
        self._maps: list[tuple[int, Mapping[int, Codec]]] = []
        self._table: Samples | None = None
        self._pt = -1
        self._ssrc = -1
        self._anchor: int | None = None
        self._seq = 0
        self._ts = 0
        self._length = 0
        self._recent: list[int] = []
        self._end = 0

    def set_codecs(self, codecs: Mapping[int, Codec], at_ns: int) -> None:
        """Payload types of packets that arrive from ``at_ns`` on."""
        self._maps.append((at_ns, dict(codecs)))
        self._pt = -1

    def _codec(self, pt: int, at: int) -> Codec | None:
        for since, codecs in reversed(self._maps):
            if at >= since and pt in codecs:
                return codecs[pt]
        return next((codecs[pt] for _, codecs in self._maps if pt in codecs), None)

    def arrival(self, at_ns: int) -> int:
        """The position of the clock at a time."""
        return int((at_ns - self._start_ns) * _PER_NS)

    # -- in ----------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Place a drain's worth of ring records. Never raises for what a sender may send."""
        if not data:
            return
        if not self._feed_steady(data):
            packets = _parse(data)
            self.counts.captured += len(packets)
            packets.sort(key=lambda p: p.at)
            self._feed_slowly(packets)

    def _feed_steady(self, data: bytes) -> bool:
        """The common case, a few array operations: equal packets that follow on without a break."""
        length = int.from_bytes(data[20:22], "little")
        size = HEADER + (length + 7) // 8 * 8
        count, rest = divmod(len(data), size)
        if rest or self._anchor is None or self._table is None or length != self._length or length == 0:
            return False
        head = np.frombuffer(data, dtype=_dtype(size))
        seqs, stamps = head["seq"], head["ts"]
        first = int(stamps[0])
        if int(seqs[0]) != (self._seq + 1) & 0xFFFF or first != (self._ts + length) & 0xFFFFFFFF:
            return False
        steps = np.arange(count, dtype=np.uint32)
        if (
            not (head["length"] == length).all()
            or not (head["ssrc"] == self._ssrc).all()
            or not (head["pt"] == self._pt).all()
            or not ((seqs - seqs[0]) == steps.astype(np.uint16)).all()
            or not ((stamps - stamps[0]) == steps * np.uint32(length)).all()
        ):
            return False
        position = self._end
        least = int(((head["at"].astype(np.int64) - self._start_ns) * _PER_NS - steps * float(length)).min()) - length
        if abs(least - position) > JUMP or position < self._base or position + count * length > self._base + self._room:
            return False
        payload = np.frombuffer(data, dtype=np.uint8).reshape(count, size)[:, HEADER : HEADER + length]
        at = position - self._base
        self._buffer[at : at + count * length] = self._table[payload].reshape(-1)
        self._took(count, int(seqs[-1]), int(stamps[-1]), position + count * length)
        self._recent = [int(s) for s in seqs[-64:]]
        self._deskew(least - position)
        return True

    def _took(self, count: int, seq: int, ts: int, end: int) -> None:
        self.counts.captured += count
        self.counts.placed += count
        self._seq, self._ts, self._end = seq, ts, end

    def _deskew(self, drift: int) -> None:
        """Move the anchor a little towards where the clock says it should be."""
        if abs(drift) <= SKEW_STEP or self._anchor is None:
            return
        step = max(-SKEW_STEP, min(SKEW_STEP, drift))
        self._anchor += step
        self._end += step
        self.counts.skew_samples += step

    def _feed_slowly(self, packets: list[_Packet]) -> None:
        start = 0
        for index in range(1, len(packets) + 1):
            if index == len(packets) or packets[index].ssrc != packets[start].ssrc:
                self._feed_source(packets[start:index])
                start = index

    def _feed_source(self, packets: list[_Packet]) -> None:
        """Packets of one SSRC, in order of arrival: put into order of sequence, then placed run by run."""
        if packets[0].ssrc != self._ssrc:
            self._ssrc, self._anchor, self._recent = packets[0].ssrc, None, []
        first = packets[0].seq if self._anchor is None else self._seq
        ordered = sorted(packets, key=lambda p: _signed16(p.seq - first))
        self.counts.reordered += sum(a is not b for a, b in zip(packets, ordered, strict=True)) // 2
        run: list[_Packet] = []
        previous: _Packet | None = None
        for packet in ordered:
            if packet.seq in self._recent:
                self.counts.duplicate += 1
                continue
            self._recent = [*self._recent[-127:], packet.seq]
            if previous is not None and not self._continues(previous, packet):
                self._place_run(run)
                run = []
            run.append(packet)
            previous = packet
        self._place_run(run)

    def _continues(self, one: _Packet, other: _Packet) -> bool:
        """Whether ``other`` is on the same timestamp line: its step fits its sequence number, or the clock."""
        step = _signed32(other.ts - one.ts)
        by_seq = _signed16(other.seq - one.seq) * max(1, len(one.payload))
        by_clock = self.arrival(other.at) - self.arrival(one.at)
        return step == by_seq or abs(step - by_clock) <= JUMP

    def _place_run(self, run: list[_Packet]) -> None:
        """A run on one timestamp line; anchored anew when it has left the clock."""
        if not run:
            return
        origin = run[0].ts
        least = min(self.arrival(p.at) - len(p.payload) - _signed32(p.ts - origin) for p in run)
        if self._anchor is None:
            position = least
            self.counts.anchors += 1
        else:
            position = self._end + _signed32(origin - self._ts) - self._length
            jumped = abs(least - position) > JUMP
            if jumped:
                position = least
                self.counts.anchors += 1
        self._count_lost(run)
        self._anchor = position
        for packet in run:
            self._place(packet, position + _signed32(packet.ts - origin))
        last = max(run, key=lambda p: _signed32(p.ts - origin))
        self._seq, self._ts, self._length = last.seq, last.ts, len(last.payload)
        self._end = position + _signed32(last.ts - origin) + len(last.payload)
        self._deskew(least - position)

    def _count_lost(self, run: list[_Packet]) -> None:
        expected = self._seq if self.counts.placed or self.counts.undecodable else (run[0].seq - 1) & 0xFFFF
        for packet in run:
            missing = _signed16(packet.seq - expected) - 1
            if 0 < missing < 3000:
                self.counts.lost += missing
            elif missing < 0:
                self.counts.lost = max(0, self.counts.lost - 1)
                continue
            expected = packet.seq

    def _place(self, packet: _Packet, position: int) -> None:
        table = self._decoder(packet)
        if table is None:
            return
        now = self.arrival(packet.at)
        position = max(0, min(position, now)) if position > now + JUMP else max(position, 0)
        length = len(packet.payload)
        start = position - self._base
        if start < 0:
            self.counts.late += 1
            return
        end = min(start + length, self._room)
        if start >= end:
            self.counts.ignored += 1
            return
        self._note_gap(position)
        self._buffer[start:end] = table[packet.payload[: end - start]]
        self.counts.placed += 1

    def _note_gap(self, position: int) -> None:
        begin = self._end if self.counts.placed else 0
        if position - begin >= SAMPLE_RATE // 100:
            if len(self.counts.gaps) < MAX_GAPS:
                self.counts.gaps.append((begin, position))
            else:
                self.counts.gaps_omitted += 1

    def _decoder(self, packet: _Packet) -> Samples | None:
        codec = self._codec(packet.pt, packet.at)
        if codec is None or not len(packet.payload):
            self.counts.ignored += 1
            return None
        table = decode_table(codec)
        if table is None:
            self.counts.undecodable[codec.name] = self.counts.undecodable.get(codec.name, 0) + 1
            return None
        if packet.pt != self._pt:
            self._pt, self._table = packet.pt, table
            if codec.name not in self.counts.codecs:
                self.counts.codecs.append(codec.name)
        return table

    # -- out ---------------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The first sample that has not been taken."""
        return self._base

    def take(self, until: int) -> Samples:
        """The samples up to position ``until``; what comes for them later is late."""
        count = max(0, until - self._base)
        taken = np.zeros(count, dtype=np.int16)
        have = min(count, self._room)
        taken[:have] = self._buffer[:have]
        self._buffer[: self._room - have] = self._buffer[have:]
        self._buffer[self._room - have :] = 0
        self._base += count
        return taken


def _parse(data: bytes) -> list[_Packet]:
    packets = []
    view = np.frombuffer(data, dtype=np.uint8)
    at = 0
    while at + HEADER <= len(data):
        head = np.frombuffer(data, dtype=_dtype(HEADER), count=1, offset=at)[0]
        length = int(head["length"])
        payload = view[at + HEADER : at + HEADER + length]
        packets.append(
            _Packet(int(head["at"]), int(head["ts"]), int(head["ssrc"]), int(head["seq"]), int(head["pt"]), payload)
        )
        at += HEADER + (length + 7) // 8 * 8
    return packets


def _signed16(value: int) -> int:
    return ((value + 0x8000) & 0xFFFF) - 0x8000


def _signed32(value: int) -> int:
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000
