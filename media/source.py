"""One RTP source (SSRC) of a leg, as the timeline knows it, and the ring records that its packets come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.sequence import OldRun, SequenceTracker

HEADER = 24
"""Bytes of a ring record before its payload; see ``media/relay.pyi``."""

_FIELDS: dict[str, Any] = {
    "names": ["at", "ts", "ssrc", "seq", "pt", "flags", "length"],
    "formats": ["<u8", "<u4", "<u4", "<u2", "u1", "u1", "<u2"],
    "offsets": [0, 8, 12, 16, 18, 19, 20],
}
_DTYPES: dict[int, np.dtype[Any]] = {}


def record_dtype(size: int) -> np.dtype[Any]:
    """A ring record's header, in records of ``size`` bytes."""
    found = _DTYPES.get(size)
    if found is None:
        found = _DTYPES[size] = np.dtype({**_FIELDS, "itemsize": size})  # type: ignore[call-overload]
    return found


@dataclass(frozen=True, slots=True)
class Packet:
    """A captured RTP packet: ``at`` is its arrival in CLOCK_MONOTONIC ns, the rest as in RFC 3550 5.1."""

    at: int
    ts: int
    ssrc: int
    seq: int
    pt: int
    payload: NDArray[np.uint8]


@dataclass(slots=True)
class Source:
    """What is known of one SSRC. ``ts`` and ``anchor`` are unwrapped: position = ts + anchor."""

    tracker: SequenceTracker
    ts: int
    length: int = 0
    pt: int = -1
    anchor: int | None = None
    since: int = 0
    """Extended sequence number from which on the anchor holds."""
    before: list[tuple[int, int]] = field(default_factory=list)
    """Earlier anchors and the sequence numbers they held from, for what comes late."""
    delays: list[tuple[int, int]] = field(default_factory=list)
    """Least delay of each batch: (arrival in ns, samples behind the anchor)."""
    old: OldRun = field(default_factory=OldRun)
    old_packets: list[Packet] = field(default_factory=list)
    """Those that ``old`` watches."""

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


def parse_records(data: bytes) -> list[Packet]:
    """Ring records one by one; a torn one at the end is left out."""
    packets = []
    view = np.frombuffer(data, dtype=np.uint8)
    at = 0
    while at + HEADER <= len(data):
        head = np.frombuffer(data, dtype=record_dtype(HEADER), count=1, offset=at)[0]
        length = int(head["length"])
        payload = view[at + HEADER : at + HEADER + length]
        packets.append(
            Packet(int(head["at"]), int(head["ts"]), int(head["ssrc"]), int(head["seq"]), int(head["pt"]), payload)
        )
        at += HEADER + (length + 7) // 8 * 8
    return packets


def unwrap(value: int, near: int) -> int:
    """The 32-bit ``value`` as the whole number next to ``near``."""
    return near + ((value - near + 0x80000000) & 0xFFFFFFFF) - 0x80000000
