"""G.711 against the formulas of ITU-T G.711, written out another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.codecs import ALAW, ULAW, decode_table, encode_alaw, encode_ulaw
from media.engine import Codec


def ulaw(byte: int) -> int:
    """Table 2a/2b: sign, segment, interval of the inverted byte; 14-bit values times 4."""
    byte = 255 - byte
    sign, segment, interval = byte // 128, byte // 16 % 8, byte % 16
    value = ((2 * interval + 33) * 2**segment - 33) * 4
    return -value if sign else value


def alaw(byte: int) -> int:
    """Table 1a/1b: every other bit inverted; 13-bit values times 8."""
    byte ^= 0b01010101
    sign, segment, interval = byte // 128, byte // 16 % 8, byte % 16
    value = (2 * interval + 1) if segment == 0 else (2 * interval + 33) * 2 ** (segment - 1)
    return value * 8 if sign else -value * 8


def test_every_byte_of_both_laws() -> None:
    assert [int(v) for v in ULAW] == [ulaw(byte) for byte in range(256)]
    assert [int(v) for v in ALAW] == [alaw(byte) for byte in range(256)]


@pytest.mark.parametrize(("encode", "table"), [(encode_ulaw, ULAW), (encode_alaw, ALAW)])
def test_encoding_gives_the_nearest_value(encode: object, table: np.ndarray) -> None:
    samples = np.arange(-32768, 32768, 7).astype(np.int16)
    decoded = table[np.frombuffer(encode(samples), dtype=np.uint8)].astype(int)  # type: ignore[operator]
    nearest = np.abs(table.astype(int)[None, :] - samples.astype(int)[:, None]).min(axis=1)
    assert np.array_equal(np.abs(decoded - samples), nearest)


@given(st.binary(min_size=1, max_size=200))
def test_what_was_decoded_is_encoded_to_the_same_sound(data: bytes) -> None:
    for encode, table in ((encode_ulaw, ULAW), (encode_alaw, ALAW)):
        sound = table[np.frombuffer(data, dtype=np.uint8)]
        assert np.array_equal(table[np.frombuffer(encode(sound), dtype=np.uint8)], sound)


@pytest.mark.parametrize(
    ("codec", "known"),
    [
        (Codec("PCMU", 8000), True), (Codec("PCMA", 8000), True), (Codec("PCMU", 16000), False),
        (Codec("PCMA", 8000, 2), False), (Codec("G722", 8000), False), (Codec("OPUS", 48000, 2), False),
    ],
)  # fmt: skip
def test_which_codecs_can_be_decoded(codec: Codec, known: bool) -> None:
    assert (decode_table(codec) is not None) == known
