"""SIP URIs and name-addrs (RFC 3261 19.1, 20.10, 25.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.errors import ParseError
from gateway.sip.uri import NameAddr, Uri, split_outside


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("sip:alice@example.com", "alice", "example.com", None),
        ("sip:alice:pw@example.com:5070;transport=tcp", "alice", "example.com", 5070),
        ("sips:+12125550123@gw.example", "+12125550123", "gw.example", None),
        ("sip:example.com", None, "example.com", None),
        ("sip:[2001:db8::1]:5060", None, "2001:db8::1", 5060),
        ("sip:a@[::1];lr", "a", "::1", None),
        ("SIP:Alice@EXAMPLE.com", "Alice", "EXAMPLE.com", None),
        ("sip:%61lice@h", "alice", "h", None),
    ],
)
def test_parts(text: str, user: str | None, host: str, port: int | None) -> None:
    uri = Uri.parse(text)
    found_user = uri.username if uri.user else None
    assert (found_user, uri.host.lower(), uri.port) == (user, host.lower(), port)


@pytest.mark.parametrize(
    "text",
    ["", "sip:", "alice@example.com", "sip:alice@", "sip:a@h:0x10", "sip:a@h:99999", "sip:[::1", "sip:a b@h",
     "sip:a@h\r\nX: y", "http://h/", "sip:@h:"],
)  # fmt: skip
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(ParseError):
        Uri.parse(text)


@pytest.mark.parametrize(
    ("text", "name", "uri", "tag"),
    [
        ('"Alice, \\"A\\"" <sip:alice@h>;tag=1', 'Alice, "A"', "sip:alice@h", "1"),
        ("Alice A <sip:alice@h;transport=tcp>;tag=2", "Alice A", "sip:alice@h;transport=tcp", "2"),
        ("sip:alice@h;tag=3", "", "sip:alice@h", "3"),
        ("<sip:alice@h;tag=inner>", "", "sip:alice@h;tag=inner", None),
        ("<tel:+1-212-555-0123>;tag=x", "", "tel:+1-212-555-0123", "x"),
    ],
)
def test_name_addrs(text: str, name: str, uri: str, tag: str | None) -> None:
    found = NameAddr.parse(text)
    assert (found.display_name, found.uri_text, found.tag) == (name, uri, tag)


users = st.text(alphabet="abz019-_.!~*'()&=+$,;?/", min_size=1, max_size=12)
hosts = st.sampled_from(["example.com", "192.0.2.1", "[2001:db8::1]", "a-b.c"])


@given(users, hosts, st.none() | st.integers(1, 65535), st.sampled_from(["", ";transport=udp", ";lr;x=y"]))
def test_what_is_written_reads_the_same(user: str, host: str, port: int | None, parameters: str) -> None:
    text = f"sip:{user}@{host}" + (f":{port}" if port else "") + parameters
    uri = Uri.parse(text)
    assert Uri.parse(str(uri)) == uri
    assert uri.port == port
    assert uri.user == user


@given(st.text(max_size=60))
def test_any_text_is_a_uri_or_a_parse_error(text: str) -> None:
    for kind in (Uri.parse, NameAddr.parse):
        try:
            kind(text)
        except ParseError:
            continue


def _split_by_the_letter(text: str, separator: str) -> list[str] | None:
    """What RFC 3261 §25.1 has between quotes and brackets is one piece; None: something stays open."""
    parts, quoted, bracket, escaped = [""], False, False, False
    for char in text:
        if char == separator and not quoted and not bracket:
            parts.append("")
            continue
        parts[-1] += char
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = not bracket
        elif char in "<>":
            bracket = char == "<"
    return None if quoted or bracket else parts


@given(st.text('"<>\\,;a ', max_size=20), st.sampled_from(",;"))
def test_splitting_heeds_quotes_and_brackets_however_they_stand(text: str, separator: str) -> None:
    expected = _split_by_the_letter(text, separator)
    if expected is None:
        with pytest.raises(ParseError):
            list(split_outside(text, separator))
    else:
        assert list(split_outside(text, separator)) == expected
