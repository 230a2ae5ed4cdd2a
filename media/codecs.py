"""G.711 (ITU-T G.711) by table, both directions; and which codecs can be decoded at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.engine import Codec

Samples = NDArray[np.int16]
SAMPLE_RATE = 8000


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


def decode_table(codec: Codec) -> Samples | None:
    """256 samples, one for each byte of the payload; None for what can't be decoded."""
    if codec.clock_rate != SAMPLE_RATE or codec.channels != 1:
        return None
    return {"PCMU": ULAW, "PCMA": ALAW}.get(codec.name)


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
