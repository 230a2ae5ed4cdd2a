"""Messages: what is read, what is written, what is refused (RFC 3261 7, 18.3, 20, 25)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.errors import ParseError, SipError
from gateway.sip.message import Request, Response, parse
from tests.support.sip_wire import request, text

token = st.text(alphabet="abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
value = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)
others = token.filter(lambda name: len(name) > 1 and not name[0].isalpha())
"""Names of no header that is known, and no compact form."""


@given(st.lists(st.tuples(others, value), max_size=8), st.binary(max_size=80))
def test_headers_and_body_come_back_as_they_were(headers: list[tuple[str, str]], body: bytes) -> None:
    data = request("MESSAGE", extra=tuple(f"{name}: {text_}" for name, text_ in headers), body=body)
    message = parse(data)
    assert message.body == body
    for name, text_ in headers:
        assert text_ in message.all(name.lower())
    again = parse(bytes(message))
    assert again.headers == message.headers
    assert again.body == body


def test_compact_forms_are_their_long_names() -> None:
    data = text(
        "INVITE sip:b@h SIP/2.0", "v: SIP/2.0/UDP h;branch=z9hG4bK1", "f: <sip:a@h>;tag=1", "t: <sip:b@h>", "i: x",
        "m: <sip:a@h>", "CSeq: 1 INVITE", "k: timer", "s: hello", "Max-Forwards: 70",
    )  # fmt: skip
    message = parse(data)
    message.check()
    assert message.get("supported") == "timer"
    assert message.get("subject") == "hello"
    assert message.call_id == "x"
    assert message.from_.tag == "1"


def test_folded_lines_are_one_value() -> None:
    """RFC 3261 7.3.1."""
    message = parse(request("OPTIONS", extra=("Subject: one", " two", "\tthree")))
    assert (message.get("subject") or "").split() == ["one", "two", "three"]


def test_values_on_one_line_or_on_several_are_the_same() -> None:
    one = parse(request("OPTIONS", extra=("Supported: a, b,c",)))
    several = parse(request("OPTIONS", extra=("Supported: a", "supported: b", "SUPPORTED: c")))
    assert one.values("supported") == several.values("supported") == ["a", "b", "c"]


def test_commas_in_quotes_and_angle_brackets_do_not_divide() -> None:
    message = parse(request("OPTIONS", extra=('Route: "a, b" <sip:x@h;lr>, <sip:y@h?a=1,2>',)))
    assert len(message.values("route")) == 2


def test_a_datagram_is_cut_at_its_content_length() -> None:
    """RFC 3261 18.3: what follows is dropped, what lacks is an error, none is all there is."""
    data = request("MESSAGE", body=b"hello")
    assert parse(data + b"more").body == b"hello"
    with pytest.raises(SipError):
        parse(data[:-1]).check()
    assert parse(data.replace(b"Content-Length: 5\r\n", b"")).body == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n\r\n", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 99 Low\r\n\r\n",
        b"SIP/2.0 700 High\r\n\r\n",
        b"INVITE sip:b@h SIP/3.0\r\n\r\n", b"INVITE  sip:b@h SIP/2.0\r\n\r\n", b"INVITE sip:b@h\r\n\r\n",
        request("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: -1"),
        request("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: 99999999999"),
        request("OPTIONS", extra=("Content-Length: 7",)),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(SipError):
        parse(data).check()


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b"From: <sip:alice@192.0.2.10>;tag=a\r\n", b""),
        (b"Call-ID: call-1\r\n", b""),
        (b"Call-ID: call-1", b"Call-ID: "),
        (b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE"),
        (b"CSeq: 1 OPTIONS", b"CSeq: 2147483648 OPTIONS"),
        (b"CSeq: 1 OPTIONS", b"CSeq: one OPTIONS"),
        (b"Max-Forwards: 70", b"Max-Forwards: many"),
        (b"To: <sip:bob@192.0.2.1>", b"To: <sip:bob@192.0.2.1"),
        (b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1", b"Via: SIP/2.0/UDP"),
        (b"Via: SIP/2.0/UDP 192.0.2.10:5060", b"Via: SIP/2.0/UDP 192.0.2.10:99999"),
    ],
)
def test_a_request_that_lacks_what_it_needs_is_refused(was: bytes, becomes: bytes) -> None:
    data = request("OPTIONS")
    assert was in data
    with pytest.raises(SipError):
        parse(data.replace(was, becomes)).check()


def test_a_response_has_the_request_s_headers_and_our_tag() -> None:
    """RFC 3261 8.2.6."""
    asked = parse(request("INVITE", extra=("Via: SIP/2.0/UDP second;branch=z9hG4bK2", "X-Secret: 1")))
    assert isinstance(asked, Request)
    made = parse(bytes(asked.response(486, to_tag="us")))
    assert isinstance(made, Response)
    assert made.all("via") == asked.all("via")
    assert (made.status, made.reason, made.to.tag) == (486, "Busy Here", "us")
    assert (made.call_id, made.cseq, made.from_.tag) == (asked.call_id, asked.cseq, "a")
    assert made.get("x-secret") is None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_parse_error(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        parse(data)
