"""Decoders and encoders beside G.711's tables: L16 here, G.722 and Opus by PyAV (FFmpeg's g722, libopus).

Each has the state of one source and direction. PyAV is imported when the first such packet comes: a gateway that
carries G.711 alone never loads it.
"""

from __future__ import annotations

import fractions
from typing import TYPE_CHECKING, Protocol

import numpy as np

from media.codecs import Format, Samples

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

_SILENCE: Samples = np.zeros(0, dtype=np.int16)


class Decoder(Protocol):
    """Payloads of one source, in the order of their sequence numbers, to mono samples."""

    def decode(self, payload: bytes) -> Samples:
        """The samples at the format's sample rate; none for a payload that is damaged. Never raises for what a sender
        may send."""

    def lost(self, packets: int) -> None:
        """So many packets are missing before the next one: what the decoder expects is moved on."""


class TableDecoder:
    """G.711."""

    def __init__(self, table: Samples) -> None:
        self._table = table

    def decode(self, payload: bytes) -> Samples:
        samples: Samples = self._table[np.frombuffer(payload, dtype=np.uint8)]
        return samples

    def lost(self, packets: int) -> None:
        """Nothing to move on."""


class L16Decoder:
    """Linear PCM in network byte order (RFC 3551 §4.5.11); two channels become their mean."""

    def __init__(self, channels: int) -> None:
        self._channels = channels

    def decode(self, payload: bytes) -> Samples:
        whole = len(payload) // (2 * self._channels) * 2 * self._channels
        samples = np.frombuffer(payload[:whole], dtype=">i2")
        if self._channels == 1:
            return samples.astype(np.int16)
        mixed: Samples = (samples.reshape(-1, 2).astype(np.int32).sum(axis=1) >> 1).astype(np.int16)
        return mixed

    def lost(self, packets: int) -> None:
        """Nothing to move on."""


def _context(name: str, rate: int, mode: str) -> AudioCodecContext:
    from av.audio.codeccontext import AudioCodecContext
    from av.codec.context import CodecContext

    context = CodecContext.create(name, mode)  # type: ignore[call-overload]
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = rate, "mono", "s16"
    return context


def _decoded(context: AudioCodecContext, payload: bytes) -> Samples:
    from av.error import FFmpegError
    from av.packet import Packet

    if not payload:  # which would end the stream
        return _SILENCE
    try:
        frames = context.decode(Packet(payload))
    except (FFmpegError, ValueError):
        return _SILENCE
    parts: list[Samples] = [frame.to_ndarray().reshape(-1).astype(np.int16, copy=False) for frame in frames]
    return parts[0] if len(parts) == 1 else np.concatenate([_SILENCE, *parts])


class G722Decoder:
    """G.722 at 64 kbit/s: two samples of each byte."""

    def __init__(self) -> None:
        self._context = _context("g722", 16000, "r")

    def decode(self, payload: bytes) -> Samples:
        return _decoded(self._context, payload)

    def lost(self, packets: int) -> None:
        """The predictor adapts by itself within a few milliseconds."""


class OpusDecoder:
    """Opus (RFC 6716), at 48 kHz; stereo is mixed by the decoder."""

    CONCEALED = 3
    """For how many missing packets the decoder is moved on: about 60 ms, after which it would be at rest."""

    def __init__(self) -> None:
        self._context = _context("libopus", 48000, "r")
        self._head = b""

    def decode(self, payload: bytes) -> Samples:
        self._head = bytes([payload[0] & 0xFC]) if payload else self._head
        return _decoded(self._context, payload)

    def lost(self, packets: int) -> None:
        """A packet of one frame without bytes is to libopus a lost one (RFC 6716 §4.4 leaves concealment to it)."""
        if self._head:
            for _ in range(min(packets, self.CONCEALED)):
                _decoded(self._context, self._head)


def encoder_context(name: str, rate: int) -> AudioCodecContext:
    """A PyAV encoder (``g722``, ``libopus`` with frames of 20 ms) of mono 16-bit audio. Raises ImportError."""
    context = _context(name, rate, "w")
    context.time_base = fractions.Fraction(1, rate)
    if name == "libopus":
        context.bit_rate = 32000
        context.options = {"application": "voip", "frame_duration": "20"}
    return context


def decoder_for(format_: Format) -> Decoder:
    """A new decoder. Raises ImportError where PyAV can't be loaded."""
    if format_.table is not None:
        return TableDecoder(format_.table)
    if format_.name == "L16":
        return L16Decoder(format_.channels)
    return G722Decoder() if format_.name == "G722" else OpusDecoder()
