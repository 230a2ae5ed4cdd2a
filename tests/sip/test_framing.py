"""Messages out of a byte stream (RFC 3261 18.3, RFC 5626 3.5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.errors import ParseError
from gateway.sip.framing import Framer
from tests.support.sip_wire import request

ONE, TWO = request("MESSAGE", body=b"hello\r\n\r\nworld"), request("OPTIONS", cseq=2)


def test_cut_at_every_byte() -> None:
    stream = ONE + TWO
    for at in range(len(stream)):
        framer = Framer()
        assert framer.feed(stream[:at]) + framer.feed(stream[at:]) == [ONE, TWO]


def test_byte_by_byte() -> None:
    framer = Framer()
    assert [frame for byte in ONE + TWO for frame in framer.feed(bytes([byte]))] == [ONE, TWO]


@given(st.lists(st.sampled_from([ONE, TWO, b"\r\n\r\n", b"\r\n"]), max_size=8), st.integers(1, 50))
def test_keep_alives_in_between_are_counted_and_never_part_of_a_message(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    framer, frames = Framer(), []
    for at in range(0, len(stream), size):
        frames += framer.feed(stream[at : at + size])
    assert frames == [part for part in parts if part in (ONE, TWO)]


def test_pings_are_owed_a_pong_each() -> None:
    framer = Framer()
    framer.feed(b"\r\n\r\n\r\n")
    framer.feed(b"\r\n" + ONE)
    assert framer.pings == 2


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 70_000,
        ONE.replace(b"Content-Length: 14", b"Content-Length: 70000"),
        ONE.replace(b"Content-Length: 14", b"Content-Length: 9999999999"),
    ],
)
def test_what_would_never_end_is_given_up(data: bytes) -> None:
    with pytest.raises(ParseError):
        Framer().feed(data)


def test_the_compact_length_counts_too() -> None:
    data = ONE.replace(b"Content-Length", b"l")
    assert Framer().feed(data + TWO) == [data, TWO]
