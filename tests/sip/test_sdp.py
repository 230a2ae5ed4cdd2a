"""Session descriptions: what phones send is read, what is printed reads back the same, nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sip.sdp import (
    MAX_LINES,
    MAX_MEDIA,
    Codec,
    Direction,
    Media,
    Origin,
    SdpError,
    SessionDescription,
)

PHONE = b"""v=0\r
o=alice 2890844526 2890844527 IN IP4 host.atlanta.example.com\r
s=A call\r
i=not kept\r
u=http://x\r
e=alice@example.com\r
c=IN IP4 192.0.2.10\r
b=CT:128\r
t=2873397496 2873404696\r
a=recvonly\r
m=audio 49170/2 RTP/AVP 0 8 97 101 18\r
i=also not\r
b=AS:64\r
a=rtpmap:97 opus/48000/2\r
a=fmtp:97 useinbandfec=1; stereo=0\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:20\r
a=maxptime:60.5\r
a=SendRecv\r
m=video 51372 RTP/AVP 31 99\r
c=IN IP6 2001:DB8::1\r
a=rtpmap:99 h263-1998/90000\r
a=rtcp:53020 IN IP6 2001:db8::9\r
"""


def parse(text: str) -> SessionDescription:
    return SessionDescription.parse(text.encode("latin-1"))


def test_a_whole_description() -> None:
    sdp = SessionDescription.parse(PHONE)
    assert sdp.origin == Origin("alice", 2890844526, 2890844527, "0.0.0.0")
    assert (sdp.name, sdp.connection, sdp.timing) == ("A call", "192.0.2.10", "2873397496 2873404696")
    assert sdp.bandwidth == (("CT", 128),)
    audio, video = sdp.media
    assert (audio.kind, audio.port, audio.port_count, audio.protocol) == ("audio", 49170, 2, "RTP/AVP")
    assert audio.payload_types == (0, 8, 97, 101, 18)
    assert audio.codecs() == {
        0: Codec("PCMU", 8000), 8: Codec("PCMA", 8000), 97: Codec("OPUS", 48000, 2),
        101: Codec("TELEPHONE-EVENT", 8000), 18: Codec("G729", 8000),
    }  # fmt: skip
    assert audio.fmtp(97) == "useinbandfec=1; stereo=0" and audio.fmtp(0) is None
    assert (audio.ptime, audio.maxptime, audio.bandwidth) == (20, 60, (("AS", 64),))
    assert sdp.direction(audio) is Direction.SENDRECV and sdp.direction(video) is Direction.RECVONLY
    assert sdp.address(audio) == "192.0.2.10" and sdp.address(video) == "2001:db8::1"
    assert sdp.rtcp(audio) == ("192.0.2.10", 49171) and sdp.rtcp(video) == ("2001:db8::9", 53020)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.replace(b"\r\n", b"\n"),
        lambda d: d.replace(b"\r\n", b"\r"),
        lambda d: d.rstrip(),
        lambda d: d.replace(b"v=0\r\n", b"v=0\r\n\r\n  \r\nx-unknown line\r\nq=what\r\n=\r\n"),
        lambda d: d.replace(b"m=audio", b"m = audio ").replace(b"a=ptime", b"A=x\r\na=ptime"),
        lambda d: d + b"\r\n\r\n",
    ],
)
def test_ways_to_write_the_same(change: object) -> None:
    assert SessionDescription.parse(change(PHONE)) == SessionDescription.parse(PHONE)  # type: ignore[operator]


def test_latin_1_is_no_error() -> None:
    sdp = SessionDescription.parse(PHONE.replace(b"A call", b"Caf\xe9"))
    assert sdp.name == "Café" and b"s=Caf\xe9\r\n" in bytes(sdp)


def test_least_that_is_taken() -> None:
    sdp = parse("m=audio 5004 RTP/AVP 0\n")
    assert sdp.media == (Media("audio", 5004, "RTP/AVP", ("0",)),)
    assert sdp.address(sdp.media[0]) is None and sdp.rtcp(sdp.media[0]) is None
    assert parse("v=0\n").media == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Not a session"), ("hello", "Not a session"), ("v=1\nm=audio 1 RTP/AVP 0", "version"),
        ("v=0\nm=audio", "m= line"), ("v=0\nm=audio 5 RTP/AVP", "m= line"), ("v=0\nm=audio 65536 RTP/AVP 0", "port"),
        ("v=0\nm=audio -1 RTP/AVP 0", "port"), ("v=0\nm=audio 1e3 RTP/AVP 0", "port"),
        ("v=0\nm=audio ² RTP/AVP 0", "port"), ("v=0\nm=audio 99999999999999999999999 RTP/AVP 0", "port"),
        ("v=0\nm=audio 5 RTP/\x01 0", "m= line"), ("v=0\nm=audio 5 RTP/AVP \x7f", "m= line"),
        ("v=0\ns=a\0b", "NUL"), ("v=0\n" + "a=x\n" * MAX_LINES, "lines"),
        ("v=0\n" + "m=audio 1 RTP/AVP 0\n" * (MAX_MEDIA + 1), "streams"),
        ("v=0\nm=audio 1 RTP/AVP" + " 0" * 257, "formats"), ("v=0\ns=" + "x" * 65536, "large"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SdpError, match=reason) as caught:
        parse(text)
    assert (caught.value.status, caught.value.sip_status) == (400, 400)


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("IN IP4 192.0.2.1", "192.0.2.1"), ("in ip4 192.0.2.1", "192.0.2.1"), ("IN IP4 224.2.1.1/127", "224.2.1.1"),
        ("IN IP6 FF15::101/3", "ff15::101"), ("IN IP6 [2001:db8::1]", "2001:db8::1"), ("IN IP4 0.0.0.0", "0.0.0.0"),
        ("IN IP4 pc.example.com", None), ("IN IP4 2001:db8::1", None), ("IN IP6 192.0.2.1", None),
        ("IN IP4 192.0.2.256", None), ("IN IP6 fe80::1%eth0", None), ("IN IP4 010.0.0.1", None), ("IN IP4", None),
        ("ATM NSAP 47", None), ("", None),
    ],
)  # fmt: skip
def test_connection_addresses_are_literals(line: str, address: str | None) -> None:
    for text in (f"v=0\nc={line}\nm=audio 4 RTP/AVP 0\n", f"v=0\nc=IN IP4 9.9.9.9\nm=audio 4 RTP/AVP 0\nc={line}\n"):
        sdp = parse(text)
        assert sdp.address(sdp.media[0]) == address


@pytest.mark.parametrize(
    ("value", "rtcp"),
    [
        ("53020", ("192.0.2.1", 53020)), ("53020 IN IP4 198.51.100.7", ("198.51.100.7", 53020)), ("0", None),
        ("99999", None), ("x", ("192.0.2.1", 4001)), ("", ("192.0.2.1", 4001)), ("53020 IN IP4 a.example", None),
    ],
)  # fmt: skip
def test_rtcp_attribute(value: str, rtcp: tuple[str, int] | None) -> None:
    sdp = parse(f"v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=rtcp:{value}\n")
    assert sdp.rtcp(sdp.media[0]) == rtcp


def test_no_rtcp_after_the_last_port() -> None:
    sdp = parse("v=0\nc=IN IP4 192.0.2.1\nm=audio 65535 RTP/AVP 0\n")
    assert sdp.rtcp(sdp.media[0]) is None


@pytest.mark.parametrize(
    "value", ["97", "97 opus", "97 opus/x", "97 opus/0", "x opus/8000", "97 /8000", "97 a/" + "9" * 10]
)
def test_bad_rtpmaps_say_nothing(value: str) -> None:
    assert parse(f"m=audio 4 RTP/AVP 97\na=rtpmap:{value}\n").media[0].codecs() == {}


def test_rtpmap_wins_over_the_static_meaning_and_its_first_over_its_second() -> None:
    media = parse("m=audio 4 RTP/AVP 18 97\na=rtpmap:18 g729/8000/1\na=rtpmap:97 a/8000\na=rtpmap:97 b/8000\n").media[0]
    assert media.codecs() == {18: Codec("G729", 8000), 97: Codec("A", 8000)}


def test_formats_that_are_no_payload_type() -> None:
    media = parse("m=audio 4 RTP/AVP 0 128 0 t38 8 -1 007\n").media[0]
    assert media.payload_types == (0, 8, 7)


def test_directions() -> None:
    every = list(Direction)
    assert [d.reversed for d in every] == [
        Direction.SENDRECV,
        Direction.RECVONLY,
        Direction.SENDONLY,
        Direction.INACTIVE,
    ]
    for one in every:
        for offered in every:
            got = one.answering(offered)
            assert not (got.sends and not (one.sends and offered.receives))
            assert not (got.receives and not (one.receives and offered.sends))
    # RFC 3264 §6.1: sendonly is answered by recvonly or inactive
    assert Direction.SENDRECV.answering(Direction.SENDONLY) is Direction.RECVONLY
    assert Direction.SENDRECV.answering(Direction.INACTIVE) is Direction.INACTIVE


def test_strict_in_what_is_sent() -> None:
    sdp = SessionDescription(
        Origin("-", 7, 8, "2001:db8::1"), connection="2001:db8::1",
        media=(Media("audio", 4000, "RTP/AVP", ("0",), attributes=(("rtpmap", "0 PCMU/8000"), ("sendrecv", None))),),
    )  # fmt: skip
    assert bytes(sdp) == (
        b"v=0\r\no=- 7 8 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\n"
        b"m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )


_token = st.from_regex(r"[A-Za-z0-9._*+-]{1,12}\Z", fullmatch=True)
_text = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
_address = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str).filter(lambda a: "%" not in a)
_names = _token.filter(lambda n: n.lower() == n)
_attributes = st.lists(st.tuples(_names, st.none() | _text), max_size=5).map(tuple)
_bandwidth = st.lists(st.tuples(_token, st.integers(0, 10**9)), max_size=2).map(tuple)
_media = st.builds(
    Media,
    kind=st.sampled_from(["audio", "video", "application"]),
    port=st.integers(0, 65535),
    protocol=st.sampled_from(["RTP/AVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "TCP/MSRP"]),
    formats=st.lists(_token, min_size=1, max_size=5).map(tuple),
    connection=st.none() | _address,
    bandwidth=_bandwidth,
    attributes=_attributes,
    port_count=st.integers(1, 9),
)
_sdp = st.builds(
    SessionDescription,
    origin=st.builds(
        Origin, username=_text, session_id=st.integers(0, 2**64 - 1), version=st.integers(0, 2**64 - 1), host=_address
    ),
    name=_text,
    connection=st.none() | _address,
    bandwidth=_bandwidth,
    attributes=_attributes,
    media=st.lists(_media, max_size=4).map(tuple),
)


@settings(max_examples=200, deadline=None)
@given(_sdp)
def test_round_trip(sdp: SessionDescription) -> None:
    assert SessionDescription.parse(bytes(sdp)) == sdp


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from([*PHONE.splitlines(True), b"c=IN IP4 a.example\n", b"a=\xe9\x85:\xa0\n"])
        | st.binary(max_size=20),
        max_size=30,
    ).map(b"".join)
)
def test_nothing_else_is_raised_and_what_is_read_is_a_fixed_point(data: bytes) -> None:
    try:
        sdp = SessionDescription.parse(data)
    except SdpError:
        return
    assert SessionDescription.parse(bytes(sdp)) == sdp
    for media in sdp.media:
        media.codecs()
        sdp.rtcp(media)
        sdp.direction(media)


def test_a_control_character_before_a_number_is_no_number() -> None:
    """Found by fuzzing: ``strip`` takes more for space than ``int`` does."""
    sdp = SessionDescription.parse(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nb=AS:\x1c5\r\nt=0 0\r\n")
    assert sdp.bandwidth == (("AS", 5),)
