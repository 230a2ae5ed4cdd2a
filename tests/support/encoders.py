"""Test senders of every codec: a known sound encoded by PyAV, packet by packet, as a phone would send it."""

from __future__ import annotations

import fractions
from collections.abc import Callable
from dataclasses import replace

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from media.codecs import encode_alaw, encode_ulaw
from media.engine import Codec
from tests.support.rtp_stream import Captured

Samples = NDArray[np.int16]

CODECS: dict[int, Codec] = {
    0: Codec("PCMU", 8000), 8: Codec("PCMA", 8000), 9: Codec("G722", 8000), 11: Codec("L16", 44100),
    96: Codec("OPUS", 48000, 2), 97: Codec("L16", 16000), 98: Codec("L16", 8000, 2), 18: Codec("G729", 8000),
    99: Codec("AMR", 8000), 13: Codec("CN", 8000), 101: Codec("TELEPHONE-EVENT", 8000),
}  # fmt: skip
SAMPLE_RATES = {0: 8000, 8: 8000, 9: 16000, 11: 44100, 96: 48000, 97: 16000, 98: 8000}
"""Of the sound that goes in, by payload type."""
PER_SAMPLE = {9: fractions.Fraction(1, 2)}
"""RTP ticks per sample, where it is not one."""


def speech(seconds: float, rate: int, seed: int = 1) -> Samples:
    """Something like a voice: a glottal tone with a moving pitch, syllables, never quite silent; below 3.4 kHz. The
    same sound at every rate."""
    t = np.arange(int(seconds * rate)) / rate
    pitch, swing = 110 + 30 * seed % 50, 0.7
    phase = 2 * np.pi * pitch * t - 12 / swing * np.cos(2 * np.pi * swing * t + seed)
    voice = sum(np.sin(k * phase + k * k) / k for k in range(1, 19))
    syllables = 0.04 + np.clip(np.sin(2 * np.pi * 1.9 * t + seed), 0.0, None)
    return np.round(5000 * voice * syllables).clip(-30000, 30000).astype(np.int16)


def tone(hertz: float, seconds: float, rate: int, amplitude: float = 8000.0) -> Samples:
    return np.round(amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def _context(name: str, rate: int, **options: str) -> AudioCodecContext:
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = rate, "mono", "s16"
    context.time_base = fractions.Fraction(1, rate)
    context.options = options
    if name == "libopus":
        context.bit_rate = 64000
    return context


def _through(context: AudioCodecContext, samples: Samples, size: int) -> list[bytes]:
    packets: list[bytes] = []
    for at in range(0, len(samples) - size + 1, size):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = context.sample_rate, at, context.time_base
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


def encode(pt: int, samples: Samples, milliseconds: int = 20) -> list[bytes]:
    """Payloads of so many milliseconds; ``samples`` are at the rate that ``SAMPLE_RATES`` tells."""
    size = SAMPLE_RATES[pt] * milliseconds // 1000
    if pt == 9:
        data = b"".join(_through(_context("g722", 16000), samples, 320))
        return [data[at : at + size // 2] for at in range(0, len(data) - size // 2 + 1, size // 2)]
    if pt == 96:
        return _through(
            _context("libopus", 48000, application="audio", frame_duration=str(milliseconds)), samples, size
        )
    whole = range(0, len(samples) - size + 1, size)
    pieces = [samples[at : at + size] for at in whole]
    if pt == 98:
        return [np.repeat(piece, 2).astype(">i2").tobytes() for piece in pieces]
    if CODECS[pt].name == "L16":
        return [piece.astype(">i2").tobytes() for piece in pieces]
    return [(encode_ulaw if pt == 0 else encode_alaw)(piece) for piece in pieces]


def sent(
    pt: int, samples: Samples, *, milliseconds: int = 20, begin_ns: int = 0, seq: int = 100, ts: int = 5000,
    ssrc: int = 0x1234, ppm: float = 0.0, delay: Callable[[int], float] = lambda index: 0.0,
) -> list[Captured]:  # fmt: skip
    """The packets of a sound whose first sample is said at ``begin_ns``; see ``rtp_stream.stream``."""
    clock = CODECS[pt].clock_rate
    step = clock * milliseconds // 1000
    found = []
    for index, payload in enumerate(encode(pt, samples, milliseconds)):
        spoken = begin_ns + (index + 1) * milliseconds * 1e6 / (1 + ppm * 1e-6)
        at = int(spoken + delay(index) * 1e9)
        found.append(Captured(at, seq + index, ts + index * step, payload, ssrc, pt))
    return found


def without(packets: list[Captured], *gone: int) -> list[Captured]:
    """The same with some packets, by their index, lost."""
    return [packet for index, packet in enumerate(packets) if index not in gone]


def continued(packets: list[Captured], before: list[Captured], step: int) -> list[Captured]:
    """``packets`` numbered and stamped so that they follow on ``before``, whose last one has ``step`` ticks."""
    last, first = before[-1], packets[0]
    seq, ts = last.seq + 1 - first.seq, last.ts + step - first.ts
    return [replace(packet, seq=packet.seq + seq, ts=packet.ts + ts) for packet in packets]


def snr(wanted: NDArray[np.int16], got: NDArray[np.int16], search: int) -> tuple[float, int]:
    """Signal to noise in dB of ``got`` against ``wanted``, and the delay of ``got`` in samples, looked for within
    ``search`` either way; the level is matched."""
    middle = slice(search, len(wanted) - search)
    reference = wanted[middle].astype(float)

    def likeness(lag: int) -> float:
        shifted = got[middle.start + lag : middle.stop + lag].astype(float)
        return float(np.dot(reference, shifted) / max(1.0, np.linalg.norm(shifted)))

    best = max(range(-search, search + 1), key=likeness)
    heard = got[middle.start + best : middle.stop + best].astype(float)
    gain = np.dot(reference, heard) / max(1.0, np.dot(heard, heard))
    noise = np.mean((reference - gain * heard) ** 2)
    return float(10 * np.log10(np.mean(reference**2) / max(noise, 1e-9))), best
