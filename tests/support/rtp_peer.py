"""An RTP endpoint for tests: a UDP socket pair (RTP, RTCP) that sends made-up packets and collects what comes back.

It has no clock and no thread: every packet is sent by the test, and receiving waits for the packet itself.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

from media.engine import Address
from media.ports import bind_pair

PATIENCE = 5.0
"""Seconds after which a packet that should have come is missing."""


def rtp(
    payload: bytes,
    *,
    sequence: int = 0,
    timestamp: int = 0,
    ssrc: int = 1,
    payload_type: int = 0,
    marker: bool = False,
    csrcs: tuple[int, ...] = (),
    extension: bytes | None = None,
    padding: int = 0,
) -> bytes:
    """An RTP packet (RFC 3550 §5.1); ``extension`` is whole 32-bit words, ``padding`` counts its own last byte."""
    first = 0x80 | (0x20 if padding else 0) | (0x10 if extension is not None else 0) | len(csrcs)
    head = struct.pack("!BBHII", first, marker << 7 | payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    head += b"".join(struct.pack("!I", csrc) for csrc in csrcs)
    if extension is not None:
        head += struct.pack("!HH", 0xBEDE, len(extension) // 4) + extension
    return head + payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")


def telephone_events(
    code: int, *, timestamp: int, sequence: int = 0, ssrc: int = 1, payload_type: int = 101, updates: int = 4
) -> list[bytes]:
    """The packets of one event, as in RFC 4733 §2.5.1: updates of 160 ticks each, then the end three times."""
    durations = [160 * (i + 1) for i in range(updates)] + [160 * (updates + 1)] * 3
    return [
        rtp(struct.pack("!BBH", code, 10 | (0x80 if i >= updates else 0), duration), sequence=sequence + i,
            timestamp=timestamp, ssrc=ssrc, payload_type=payload_type, marker=i == 0)
        for i, duration in enumerate(durations)
    ]  # fmt: skip


def rtcp(packet_type: int = 201, ssrc: int = 1) -> bytes:
    """A minimal RTCP packet: an empty receiver report (RFC 3550 §6.4.2)."""
    return struct.pack("!BBHI", 0x80, packet_type, 1, ssrc)


def ulaw(samples: list[int]) -> bytes:
    """G.711 µ-law (ITU-T G.711) of 16-bit samples."""
    return bytes(map(_ulaw_byte, samples))


def _ulaw_byte(sample: int) -> int:
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


def tone_packets(
    frequency: float, count: int, *, ssrc: int = 1, amplitude: int = 8000, first: int = 0
) -> Iterator[bytes]:
    """``count`` consecutive 20 ms PCMU packets of a sine; packet ``first`` is at timestamp 160 * first."""
    for number in range(first, first + count):
        start = 160 * number
        samples = [round(amplitude * math.sin(2 * math.pi * frequency * n / 8000)) for n in range(start, start + 160)]
        yield rtp(ulaw(samples), sequence=number, timestamp=start, ssrc=ssrc, marker=number == first)


def free_range(pairs: int) -> int:
    """The first of ``2 * pairs`` consecutive ports that were free just now."""
    for lowest in range(41000, 60000, 2 * pairs):
        try:
            for port in range(lowest, lowest + 2 * pairs, 2):
                bind_pair("127.0.0.1", port).close()
            return lowest
        except OSError:
            continue
    raise AssertionError("no free ports")


class RtpPeer:
    """A far end: RTP and RTCP sockets on ``host``, ephemeral ports. Use as a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for made in self._sockets:
            made.bind((host, 0))
            made.settimeout(PATIENCE)
        self.rtp, self.rtcp = (Address(*made.getsockname()[:2]) for made in self._sockets)

    def __enter__(self) -> RtpPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for made in self._sockets:
            made.close()

    def send(self, packet: bytes, to: Address) -> None:
        """From the RTP port."""
        self._sockets[0].sendto(packet, (to.host, to.port))

    def send_rtcp(self, packet: bytes, to: Address) -> None:
        """From the RTCP port to the port after ``to``'s."""
        self._sockets[1].sendto(packet, (to.host, to.port + 1))

    def receive(self) -> tuple[bytes, Address]:
        """The next packet on the RTP port, and where it came from. Raises TimeoutError."""
        return self._receive(0)

    def receive_rtcp(self) -> tuple[bytes, Address]:
        """The next packet on the RTCP port, and where it came from. Raises TimeoutError."""
        return self._receive(1)

    def _receive(self, number: int) -> tuple[bytes, Address]:
        data, source = self._sockets[number].recvfrom(65536)
        return data, Address(*source[:2])

    def pending(self) -> list[bytes]:
        """What has already come to the RTP port, without waiting."""
        packets = []
        self._sockets[0].setblocking(False)
        try:
            while True:
                packets.append(self._sockets[0].recv(65536))
        except BlockingIOError:
            return packets
        finally:
            self._sockets[0].settimeout(PATIENCE)


def until(condition: Callable[[], bool]) -> None:
    """Wait for the relay's worker, which has no event to offer for what it does a moment later."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()
