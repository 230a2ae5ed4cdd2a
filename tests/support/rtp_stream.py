"""Synthetic captured RTP: ring records as the relay writes them, of senders with a clock, a network and a history."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from media.codecs import ULAW

RATE = 8000
PCMU = 0


@dataclass(frozen=True)
class Captured:
    """One captured packet; ``at`` in ns since the recording began."""

    at: int
    seq: int
    ts: int
    payload: bytes
    ssrc: int = 0x1234
    pt: int = PCMU

    def record(self, start_ns: int) -> bytes:
        """As it lies in the ring."""
        head = struct.pack(
            "<QIIHBBHxx", start_ns + self.at, self.ts & 0xFFFFFFFF, self.ssrc, self.seq & 0xFFFF, self.pt, 0,
            len(self.payload),
        )  # fmt: skip
        return head + self.payload + bytes(-len(self.payload) % 8)


def sound(samples: int, seed: int = 1) -> NDArray[np.uint8]:
    """mu-law noise without a repeated pattern, so that every place in it can be told from every other."""
    return np.random.default_rng(seed).integers(0, 256, samples, dtype=np.uint8)


def stream(
    audio: NDArray[np.uint8], *, begin_ns: int = 0, ppm: float = 0.0, seq: int = 100, ts: int = 5000, size: int = 160,
    ssrc: int = 0x1234, delay: Callable[[int], float] = lambda index: 0.0,
) -> list[Captured]:  # fmt: skip
    """Packets of ``audio`` whose first sample is said at ``begin_ns``, by a clock that is ``ppm`` fast.

    ``delay`` gives the network's delay of a packet in seconds. In order of sending.
    """
    rate = RATE * (1 + ppm * 1e-6)
    packets = []
    for index in range(len(audio) // size):
        sent = begin_ns + (index + 1) * size / rate * 1e9
        at = int(sent + delay(index) * 1e9)
        payload = audio[index * size : (index + 1) * size].tobytes()
        packets.append(Captured(at, seq + index, ts + index * size, payload, ssrc))
    return packets


@dataclass
class Taken:
    """What a timeline gave."""

    samples: NDArray[np.int16]
    expected_lost: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def where(self, audio: NDArray[np.uint8], at: int, length: int = 400) -> int | None:
        """The position at which ``length`` samples of ``audio`` from ``at`` on stand, None if they are nowhere."""
        wanted = ULAW[audio[at : at + length]]
        first = np.flatnonzero(self.samples[: len(self.samples) - length + 1] == wanted[0])
        for position in first:
            if np.array_equal(self.samples[position : position + length], wanted):
                return int(position)
        return None


def in_order_of_arrival(packets: Iterable[Captured]) -> list[Captured]:
    return sorted(packets, key=lambda packet: packet.at)


def with_type(packets: Iterable[Captured], pt: int) -> list[Captured]:
    return [replace(packet, pt=pt) for packet in packets]
