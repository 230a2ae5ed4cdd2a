"""Captured RTP packets as they lie in a ring; see ``media/relay.pyi``."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = 24
"""Bytes of a ring record before its payload."""
_RECORD = struct.Struct("<QIIHBBHxx")


class Packet(NamedTuple):
    """A captured RTP packet: ``at`` is its arrival in CLOCK_MONOTONIC ns, the rest as in RFC 3550 §5.1."""

    at: int
    ts: int
    ssrc: int
    seq: int
    pt: int
    marker: bool
    payload: bytes


def records(data: bytes) -> Iterator[Packet]:
    """Ring records one by one; a torn one at the end is left out."""
    at = 0
    while at + HEADER <= len(data):
        arrival, ts, ssrc, seq, pt, flags, length = _RECORD.unpack_from(data, at)
        payload = data[at + HEADER : at + HEADER + length]
        yield Packet(arrival, ts, ssrc, seq, pt, bool(flags & 1), payload)
        at += HEADER + (length + 7) // 8 * 8
