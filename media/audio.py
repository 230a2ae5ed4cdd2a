"""One leg's audio: payload at its place in, samples of the file out.

G.711 is decoded where it is placed. What needs a decoder with a state waits, encoded, until its samples are due, and is
decoded in order. Decoded samples lie in a ``Plane`` of their own rate, and are brought to the file's rate when they are
taken. A loss is concealed then (``media.concealment``); any other hole is silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from media.codecs import SAMPLE_RATE, Format, Samples
from media.concealment import LONGEST_SECONDS, Erasure
from media.coverage import GRID, Coverage, Hole
from media.decoders import Decoder, decoder_for
from media.packets import HEADER
from media.plane import Plane
from media.records import decode_steady

BEFORE = GRID // 250
"""4 ms: a quarter of the longest pitch period, and a little."""
AHEAD = GRID // 50
"""20 ms: what is decoded beyond what is taken, for the resampler and for the end of a gap."""


_G711_TICK = GRID // SAMPLE_RATE


@dataclass(slots=True)
class Piece:
    """Payload of one packet, or of more that follow on, in a codec that can be decoded."""

    ssrc: int
    format: Format
    seq: int
    """Extended sequence number of the first packet."""
    position: int
    """Where it begins, in ticks of the format's RTP clock since the recording began."""
    ticks: int
    payload: bytes
    packets: int = 1

    @property
    def begin(self) -> int:
        return self.position * GRID // self.format.clock_rate

    @property
    def end(self) -> int:
        return (self.position + self.ticks) * GRID // self.format.clock_rate

    @property
    def sample(self) -> int:
        """Where it begins in the plane of its format."""
        return self.position * self.format.sample_rate // self.format.clock_rate


@dataclass(slots=True)
class _Decoding:
    """A source's decoder, and the sequence number that it waits for."""

    decoder: Decoder
    format: Format
    next_seq: int


@dataclass(slots=True)
class LegAudio:
    """``rate`` is the file's, which may be set until the first call of ``take``."""

    rate: int
    conceal: bool = True
    base: int = 0
    """Everything before is taken; in ticks of the grid (``media.coverage``)."""
    damaged: dict[str, int] = field(default_factory=dict)
    """Packets that no sound came out of, by the name of their codec."""
    _taken: int = 0
    _coverage: Coverage = field(default_factory=Coverage)
    _planes: dict[int, Plane] = field(default_factory=dict)
    _waiting: list[Piece] = field(default_factory=list)
    _decodings: dict[int, _Decoding] = field(default_factory=dict)
    _erasure: tuple[int, Plane, Erasure] | None = None

    # -- in ----------------------------------------------------------------------------------------------------------

    def place(self, piece: Piece, lost: bool = False) -> bool:
        """Put it at its place. ``lost``: packets are missing before it. False: too far off, there is no room."""
        plane = self._plane(piece.format.sample_rate)
        if not plane.reach(piece.end * plane.rate // GRID):
            return False
        if piece.format.table is None:
            self._waiting.append(piece)
        else:
            self._put(plane, piece.sample, piece.format.table[np.frombuffer(piece.payload, dtype=np.uint8)])
        self._coverage.cover(max(0, piece.begin), piece.end, lost)
        return True

    def place_steady(
        self, ssrc: int, format_: Format, seq: int, position: int, length: int, data: bytes, skip: int, count: int
    ) -> bool:  # fmt: skip
        """The same for equal ring records of ``length`` bytes of payload, each byte a tick: ``count`` of them after the
        first ``skip``; ``seq`` and ``position`` are the first one's."""
        if format_.table is None:
            payloads = np.frombuffer(data, dtype=np.uint8).reshape(skip + count, -1)[skip:, HEADER : HEADER + length]
            return self.place(Piece(ssrc, format_, seq, position, count * length, payloads.tobytes(), count))
        plane = self._planes.get(SAMPLE_RATE) or self._plane(SAMPLE_RATE)
        end = position + count * length
        if not plane.reach(end):
            return False
        if position > plane.end:
            self._close_short_gap(plane, position)
        if count:
            decode_steady(data, length, skip, format_.table, plane.room(position, end - position))
        self._coverage.cover(position * _G711_TICK, end * _G711_TICK)
        return True

    def interrupt(self) -> None:
        """Audio that is missing from here to the next packet was not captured, or not sent: no loss."""
        self._coverage.interrupt()

    def forget(self, ssrc: int) -> None:
        """A source is over: decode what is left of it."""
        self._decode([piece for piece in self._waiting if piece.ssrc == ssrc])
        self._decodings.pop(ssrc, None)

    def _plane(self, rate: int) -> Plane:
        found = self._planes.get(rate)
        if found is None:
            found = self._planes[rate] = Plane(rate, self._taken * rate // self.rate)
        return found

    def _put(self, plane: Plane, position: int, samples: Samples) -> None:
        """Nothing of what was said before the recording began."""
        if position < 0:
            position, samples = 0, samples[-position:]
        self._close_short_gap(plane, position)
        plane.put(position, samples)

    def _close_short_gap(self, plane: Plane, position: int) -> None:
        """A step of the anchor left a gap of up to 2 ms: the last sample is held over it."""
        if plane.base < plane.end < position <= plane.end + plane.rate // 500:
            plane.hold(plane.end, position)

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _decode(self, due: list[Piece]) -> None:
        """Decode pieces that waited, in order."""
        if not due:
            return
        done = set(map(id, due))
        self._waiting = [piece for piece in self._waiting if id(piece) not in done]
        for piece in sorted(due, key=lambda piece: (piece.begin, piece.seq)):
            samples = self._decoder(piece).decode(piece.payload)
            if not len(samples):
                self.damaged[piece.format.name] = self.damaged.get(piece.format.name, 0) + piece.packets
            self._put(self._plane(piece.format.sample_rate), piece.sample, samples)

    def _decoder(self, piece: Piece) -> Decoder:
        """The source's decoder, told of what is missing before ``piece``."""
        found = self._decodings.get(piece.ssrc)
        if found is None or found.format is not piece.format:
            found = self._decodings[piece.ssrc] = _Decoding(decoder_for(piece.format), piece.format, piece.seq)
        if piece.seq > found.next_seq:
            found.decoder.lost(piece.seq - found.next_seq)
        found.next_seq = piece.seq + piece.packets
        return found.decoder

    # -- loss --------------------------------------------------------------------------------------------------------

    def _conceal(self, until: int) -> None:
        """Fill what was lost before ``until`` (of the grid) and is not written yet. A gap that begins just after it is
        begun too: what is before a gap is made to run into it."""
        for hole in self._coverage.lost_before(until, BEFORE):
            if max(hole.begin + round(LONGEST_SECONDS * GRID), hole.end) > self.base:
                self._fill(hole, until)

    def _fill(self, hole: Hole, until: int) -> None:
        if self._erasure is None or self._erasure[0] != hole.begin:
            plane = self._heard_before(hole.begin)
            if plane is None:
                return
            self._erasure = hole.begin, plane, _erasure_at(plane, hole.begin * plane.rate // GRID)
        _, plane, erasure = self._erasure
        begin = hole.begin * plane.rate // GRID
        end = min(hole.end if hole.end >= 0 else until, until) * plane.rate // GRID
        start, stop = max(begin, plane.base), min(end, begin + erasure.length)
        if start < stop:
            plane.put(start, erasure.fill(start - begin, stop - start))
            self._coverage.note_concealed(start * GRID // plane.rate, stop * GRID // plane.rate)
        if 0 <= hole.end <= until and end >= plane.base:
            gap = end - begin
            plane.put(end, erasure.merge(plane.get(end, erasure.merge_length(gap)), gap))

    def _heard_before(self, position: int) -> Plane | None:
        """The plane with sound just before a position of the grid."""
        for plane in self._planes.values():
            if plane.get(position * plane.rate // GRID - plane.rate // 100, plane.rate // 100).any():
                return plane
        return None

    # -- out ---------------------------------------------------------------------------------------------------------

    def take(self, until: int) -> Samples:
        """The file's samples from where the last call left off up to position ``until``, which is no less."""
        grid = until * GRID // self.rate
        if self._waiting:
            self._decode([piece for piece in self._waiting if piece.begin < grid + AHEAD])
        coverage = self._coverage
        if coverage.holes or coverage.end < grid:
            if self.conceal:
                self._conceal(grid)
            coverage.settle(grid)
        coverage.settled = grid
        begin, self._taken, self.base = self._taken, until, grid
        parts = [plane.take(begin, until, self.rate) for plane in self._planes.values()]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return np.zeros(self._taken - begin, dtype=np.int16)
        self._planes = {rate: plane for rate, plane in self._planes.items() if plane.end > plane.base - rate}
        return np.clip(np.sum(parts, axis=0, dtype=np.int32), -32768, 32767).astype(np.int16)

    def gaps(self, until: int) -> tuple[list[tuple[int, int]], int]:
        """Where a recording of ``until`` samples has no audio that came from this leg: ranges of 10 ms or more, and how
        many more there were than are kept."""
        ranges = self._in_file(self._coverage.gaps(until * GRID // self.rate))
        return [(b, e) for b, e in ranges if e - b >= self.rate // 100], self._coverage.omitted

    def concealed(self, until: int) -> tuple[list[tuple[int, int]], int]:
        """The parts of the gaps that were filled, and how many more there were than are kept."""
        return self._in_file(self._coverage.concealed(until * GRID // self.rate)), self._coverage.concealed_omitted

    def _in_file(self, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(begin * self.rate // GRID, end * self.rate // GRID) for begin, end in ranges]


def _erasure_at(plane: Plane, begin: int) -> Erasure:
    """The fill of a gap that begins at a position of the plane, and what is before it made to run into it."""
    past = plane.rate // 20
    erasure = Erasure(plane.get(begin - past, past), plane.rate)
    if begin - erasure.overlap >= plane.base:
        plane.put(begin - erasure.overlap, erasure.tail)
    return erasure
