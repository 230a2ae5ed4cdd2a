"""What the relay must do, written down a second time: a slow model of one session, the oracle of the relay's tests.

It reads as a list of rules where the relay is a decision tree: every packet is judged by predicates over plain values.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field

Endpoint = tuple[str, int]
GUARD_NS = 1_000_000_000


@dataclass
class Door:
    """One socket of a leg."""

    signalled: Endpoint | None = None
    latched: Endpoint | None = None
    shunned: Endpoint | None = None
    shunned_until: int = 0

    def move(self, to: Endpoint, now: int) -> None:
        if self.latched is not None:
            self.shunned, self.shunned_until = self.latched, now + GUARD_NS
        self.signalled, self.latched = to, None

    @property
    def far_end(self) -> Endpoint | None:
        return self.latched or self.signalled


@dataclass
class Leg:
    rtp: Door = field(default_factory=Door)
    rtcp: Door = field(default_factory=Door)
    sending: bool = False
    types: frozenset[int] = frozenset()
    ring: list[bytes] | None = None
    counts: Counter[str] = field(default_factory=Counter)


def parse(packet: bytes) -> tuple[int, bool, int, int, int, bytes] | None:
    """(payload type, marker, sequence, timestamp, ssrc, payload) of a valid RTP packet."""
    if len(packet) < 12:
        return None
    first, second, sequence, timestamp, ssrc = struct.unpack("!BBHII", packet[:12])
    if first & 0xC0 != 0x80 or second & 0x7F in range(72, 77):
        return None
    rest = packet[12:]
    skip = (first & 15) * 4
    if len(rest) < skip:
        return None
    rest = rest[skip:]
    if first & 0x10:
        if len(rest) < 4:
            return None
        words = int.from_bytes(rest[2:4], "big")
        if len(rest) < 4 + 4 * words:
            return None
        rest = rest[4 + 4 * words :]
    if first & 0x20:
        if not rest or not 1 <= rest[-1] <= len(rest):
            return None
        rest = rest[: len(rest) - rest[-1]]
    return second & 0x7F, second > 127, sequence, timestamp, ssrc, rest


def control(packet: bytes) -> bool:
    """Is it RTCP, as far as the relay looks?"""
    if len(packet) < 8 or packet[0] >> 6 != 2 or not 192 <= packet[1] <= 223:
        return False
    return (int.from_bytes(packet[2:4], "big") + 1) * 4 <= len(packet)


class Model:
    """The session; methods as those of ``media.relay.Session``."""

    def __init__(self, ring_bytes: int) -> None:
        self.legs = (Leg(), Leg())
        self._ring_bytes = ring_bytes
        self._start = 0

    def set_remote(self, side: int, rtp: Endpoint | None, rtcp: Endpoint | None, now: int) -> None:
        leg = self.legs[side]
        leg.sending = rtp is not None
        if rtp is None:
            return
        rtcp = rtcp or (rtp[0], rtp[1] + 1)
        if rtp != leg.rtp.signalled:
            leg.rtp.move(rtp, now)
            leg.rtcp.move(rtcp, now)
        elif rtcp != leg.rtcp.signalled:
            leg.rtcp.move(rtcp, now)

    def set_capture_types(self, side: int, types: frozenset[int]) -> None:
        self.legs[side].types = types

    def start_capture(self, side: int, start: int) -> None:
        if self.legs[side].ring is None:
            self.legs[side].ring, self._start = [], start

    def drain(self, side: int) -> bytes:
        ring = self.legs[side].ring
        if ring is None:
            return b""
        records, ring[:] = b"".join(ring), []
        return records

    def stop_capture(self, side: int) -> bytes | None:
        if self.legs[side].ring is None:
            return None
        records = self.drain(side)
        self.legs[side].ring = None
        return records

    def feed(self, side: int, rtcp: bool, source: Endpoint, packet: bytes, now: int) -> tuple[str, Endpoint | None]:
        leg, other = self.legs[side], self.legs[1 - side]
        valid = control(packet) if rtcp else parse(packet) is not None
        known = self._known(leg, rtcp, source, now)
        door = leg.rtcp if rtcp else leg.rtp
        if not known and (valid or door.latched is not None):
            leg.counts["dropped_source"] += 1
            return "source", None
        if not valid:
            leg.counts["dropped_malformed"] += 1
            return "malformed", None
        door.latched, door.shunned = source, None if door.latched is None else door.shunned
        self._accept(leg, rtcp, packet, now)
        if not other.sending:
            leg.counts["dropped_no_target"] += not rtcp
            return "no_target", None
        leg.counts["rtcp_forwarded" if rtcp else "forwarded"] += 1
        return "forwarded", (other.rtcp if rtcp else other.rtp).far_end

    @staticmethod
    def _known(leg: Leg, rtcp: bool, source: Endpoint, now: int) -> bool:
        door = leg.rtcp if rtcp else leg.rtp
        if door.signalled is None or leg.rtp.far_end is None:
            return False
        if door.latched is not None or source == door.signalled:
            return source == (door.latched or door.signalled)
        if source == door.shunned and now < door.shunned_until:
            return False
        behind_nat = leg.rtp.latched is not None and leg.rtp.latched != leg.rtp.signalled
        return not rtcp or (behind_nat and source[0] == leg.rtp.far_end[0])

    def _accept(self, leg: Leg, rtcp: bool, packet: bytes, now: int) -> None:
        if rtcp:
            leg.counts["rtcp_received"] += 1
            return
        leg.counts["received"] += 1
        leg.counts["received_bytes"] += len(packet)
        leg.counts["last_packet_ns"] = now
        parsed = parse(packet)
        assert parsed is not None
        payload_type, marker, sequence, timestamp, ssrc, payload = parsed
        if leg.ring is None or not payload or payload_type not in leg.types:
            return
        arrival = max(now, self._start)
        record = (
            struct.pack("<QIIHBBHH", arrival, timestamp, ssrc, sequence, payload_type, marker, len(payload), 0)
            + payload
        )
        record += bytes(-len(record) % 8)
        if sum(map(len, leg.ring)) + len(record) > self._ring_bytes:
            leg.counts["ring_lost"] += 1
            return
        leg.ring.append(record)
        leg.counts["captured"] += 1
        leg.counts["captured_bytes"] += len(payload)
