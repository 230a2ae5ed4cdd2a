"""Which codecs can be decoded, how their payloads lie in RTP, and G.711 (ITU-T G.711) by table, both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.engine import Codec

Samples = NDArray[np.int16]
SAMPLE_RATE: Final = 8000

L16_RATES: Final = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
FILE_RATES: Final = (8000, 16000, 24000, 32000, 44100, 48000)
"""Sample rates that a recording may have."""
OPUS_CLOCK: Final = 48000
OPUS_FILE_RATE: Final = 16000
"""Telephony's Opus is wideband; its own 48 kHz would treble every file for nothing."""


def _ulaw_table() -> Samples:
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    value = magnitude - 0x84
    return np.where(code & 0x80, -value, value).astype(np.int16)


def _alaw_table() -> Samples:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    value = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, value, -value).astype(np.int16)


ULAW = _ulaw_table()
"""Sample of each µ-law byte."""
ALAW = _alaw_table()
"""Sample of each A-law byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """How a codec that can be decoded lies in RTP, and what comes out of it. Compared by identity."""

    name: str
    clock_rate: int
    """RTP timestamp units (ticks) in a second."""
    sample_rate: int
    """Of the decoded audio."""
    file_rate: int
    """The least sample rate of a file that does it justice."""
    channels: int = 1
    table: Samples | None = None
    """G.711: the sample of each byte. None: a decoder with a state, or with more to do (``media.decoders``)."""
    byte_ticks: bool = False
    """Each byte of payload is one tick: G.711, G.722."""

    def ticks(self, payload: bytes) -> int:
        """How much time a payload holds, in ticks; 0 for one that is none of this codec."""
        if self.byte_ticks:
            return len(payload)
        return opus_ticks(payload) if self.name == "OPUS" else len(payload) // (2 * self.channels)


_FORMATS: Final = {
    Codec("PCMU", 8000): Format("PCMU", 8000, 8000, 8000, table=ULAW, byte_ticks=True),
    Codec("PCMA", 8000): Format("PCMA", 8000, 8000, 8000, table=ALAW, byte_ticks=True),
    # RFC 3551 §4.5.2: the clock of G.722 is 8000 by an old mistake, its audio has 16 kHz
    Codec("G722", 8000): Format("G722", 8000, 16000, 16000, byte_ticks=True),
    # RFC 7587 §4.1: always 48000 and two channels in SDP, whatever is sent; some leave the channels out
    **{
        Codec("OPUS", OPUS_CLOCK, channels): Format("OPUS", OPUS_CLOCK, OPUS_CLOCK, OPUS_FILE_RATE)
        for channels in (1, 2)
    },
    **{
        Codec("L16", rate, channels): Format(
            "L16", rate, rate, next(file for file in FILE_RATES if file >= rate), channels
        )
        for rate in L16_RATES
        for channels in (1, 2)
    },
}


def format_of(codec: Codec) -> Format | None:
    """None for a codec that can't be decoded here (AMR, G.729 and the like)."""
    return _FORMATS.get(codec)


def opus_ticks(payload: bytes) -> int:
    """The duration of an Opus packet at 48 kHz, by its first byte or two (RFC 6716 §3.1, §3.2); 0 if it has none."""
    if not payload:
        return 0
    config, code = payload[0] >> 3, payload[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    if code < 3:
        return frame * (1 if code == 0 else 2)
    count = payload[1] & 0x3F if len(payload) > 1 else 0
    return frame * count if frame * count <= 5760 else 0


def decode_table(codec: Codec) -> Samples | None:
    """256 samples, one for each byte of the payload; None for what has no such table."""
    found = format_of(codec)
    return found.table if found is not None else None


def _inverse(table: Samples) -> NDArray[np.uint8]:
    """For each 16-bit sample the byte whose value is nearest; index is sample + 32768."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    samples = np.arange(-32768, 32768)
    right = np.clip(np.searchsorted(values, samples), 1, 255)
    nearer_left = samples - values[right - 1] <= values[right] - samples
    return order[np.where(nearer_left, right - 1, right)].astype(np.uint8)


_ULAW_OF, _ALAW_OF = _inverse(ULAW), _inverse(ALAW)


def encode_ulaw(samples: NDArray[Any]) -> bytes:
    """int16 samples to µ-law, nearest value."""
    return _ULAW_OF[samples.astype(np.int32) + 32768].tobytes()


def encode_alaw(samples: NDArray[Any]) -> bytes:
    """int16 samples to A-law, nearest value."""
    return _ALAW_OF[samples.astype(np.int32) + 32768].tobytes()
