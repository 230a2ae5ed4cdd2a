"""Offer/answer between two legs, flow by flow, as the call logic uses it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sip.offer_answer import FarEnd, LegSdp, OfferAnswerError, OfferState, address_families
from gateway.sip.sdp import Codec, Direction, NotAcceptable, SdpError, SessionDescription

PCMU, PCMA, EVENT = Codec("PCMU", 8000), Codec("PCMA", 8000), Codec("TELEPHONE-EVENT", 8000)


def sdp(
    host: str = "192.0.2.1",
    port: int = 4000,
    pts: str = "0 8 101",
    *more: str,
    version: int = 1,
    audio: str = "RTP/AVP",
) -> bytes:
    """A phone's description: one audio stream, then lines of its own."""
    kind = 6 if ":" in host else 4
    lines = [
        "v=0", f"o=phone 55 {version} IN IP{kind} {host}", "s=phone secret name", f"c=IN IP{kind} {host}", "t=0 0",
        f"m=audio {port} {audio} {pts}",
    ]  # fmt: skip
    if "101" in pts.split():
        lines += ["a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16"]
    return ("\r\n".join([*lines, *more]) + "\r\n").encode()


def legs() -> tuple[LegSdp, LegSdp]:
    return LegSdp("198.51.100.1", 10000, session_id=500), LegSdp("198.51.100.1", 10002, session_id=900)


def read(body: bytes) -> SessionDescription:
    return SessionDescription.parse(body)


def audio_line(body: bytes) -> str:
    return next(line for line in body.decode().splitlines() if line.startswith("m=audio"))


def direction(body: bytes) -> Direction:
    parsed = read(body)
    return parsed.direction(next(m for m in parsed.media if m.kind == "audio"))


def version(body: bytes) -> int:
    return read(body).origin.version


def call(offer: bytes = b"", answer: bytes = b"") -> tuple[LegSdp, LegSdp, bytes, bytes]:
    """A call set up: A, B, what B was offered, what A was answered."""
    a, b = legs()
    offered = b.send_offer(a.receive_offer(offer or sdp()))
    answered = a.send_answer(b.receive_answer(answer or sdp("203.0.113.9", 7000, "0 101")))
    return a, b, offered, answered


# -- (a) … (k): the flows of a call ------------------------------------------------------------------------------------


def test_a_offer_in_the_invite_answer_in_the_200() -> None:
    a, b, offered, answered = call()
    assert offered == (
        b"v=0\r\no=- 900 900 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
        b"m=audio 10002 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
    )
    assert answered == (
        b"v=0\r\no=- 500 500 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
        b"m=audio 10000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
    )
    assert a.far_end == FarEnd(("192.0.2.1", 4000), ("192.0.2.1", 4001))
    assert b.far_end == FarEnd(("203.0.113.9", 7000), ("203.0.113.9", 7001))
    assert (a.state, b.state) == (OfferState.STABLE, OfferState.STABLE)
    assert (a.sent, b.sent) == (answered, offered)
    assert a.stream is not None and a.stream.payload_types == (0, 8, 101)


def test_b_answer_in_the_183_and_again_in_the_200() -> None:
    a, b = legs()
    b.send_offer(a.receive_offer(sdp()))
    assert b.codecs == {0: PCMU, 8: PCMA, 101: EVENT}, "early packets may come before any answer"
    early = a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0"), fork="t1", final=False), final=False)
    assert a.state is OfferState.REMOTE_OFFER and b.state is OfferState.LOCAL_OFFER
    assert b.far_end.rtp == ("203.0.113.9", 7000) and a.far_end.rtp == ("192.0.2.1", 4000)
    final = a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0"), fork="t1"))
    assert final == early and not a.answer_changed
    assert (a.state, b.state) == (OfferState.STABLE, OfferState.STABLE)


def test_b_200_without_sdp_means_what_the_183_said() -> None:
    a, b = legs()
    b.send_offer(a.receive_offer(sdp()))
    early = a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "8"), fork="t1", final=False), final=False)
    with pytest.raises(NotAcceptable):
        b.receive_answer(b"", fork="t2")
    assert a.send_answer(b.receive_answer(b"", fork="t1")) == early
    assert b.far_end.rtp == ("203.0.113.9", 7000) and b.state is OfferState.STABLE


def test_c_delayed_offer() -> None:
    a, b = legs()
    to_a = a.send_offer(b.receive_offer(sdp("203.0.113.9", 7000, "8 0")))  # B's 200 -> our 200 to A
    assert audio_line(to_a) == "m=audio 10000 RTP/AVP 8 0"
    to_b = b.send_answer(a.receive_answer(sdp("192.0.2.1", 4000, "8")))  # A's ACK -> our ACK to B
    assert audio_line(to_b) == "m=audio 10002 RTP/AVP 8"
    assert a.far_end.rtp == ("192.0.2.1", 4000) and b.far_end.rtp == ("203.0.113.9", 7000)
    assert a.state is b.state is OfferState.STABLE


def test_c_delayed_offer_that_a_never_answers() -> None:
    a, b = legs()
    a.send_offer(b.receive_offer(sdp("203.0.113.9", 7000, "8 0", "m=video 7002 RTP/AVP 31")))
    with pytest.raises(NotAcceptable):
        a.receive_answer(b"")
    refused = b.refuse()
    assert [(m.kind, m.port) for m in read(refused).media] == [("audio", 0), ("video", 0)]
    assert b.state is OfferState.STABLE


def test_d_hold_and_resume() -> None:
    a, b, offered, answered = call()
    hold = b.send_offer(a.receive_offer(sdp(pts="0 101", version=2) + b"a=sendonly\r\n"))
    assert direction(hold) is Direction.SENDONLY and version(hold) == version(offered) + 1
    held = a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0 101") + b"a=recvonly\r\n"))
    assert direction(held) is Direction.RECVONLY and version(held) == version(answered) + 1
    assert b.far_end.rtp == ("203.0.113.9", 7000), "music on hold still goes to B"
    resume = b.send_offer(a.receive_offer(sdp(pts="0 101", version=3)))
    resumed = a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0 101")))
    assert direction(resume) is direction(resumed) is Direction.SENDRECV
    assert version(resume) == version(offered) + 2 and version(resumed) == version(answered) + 2


def test_d_hold_of_rfc_2543() -> None:
    a, b, *_ = call()
    hold = b.send_offer(a.receive_offer(sdp("0.0.0.0", 4000, "0")))
    assert direction(hold) is Direction.SENDONLY and b"0.0.0.0" not in hold
    assert a.far_end.rtp is not None, "until it is answered"
    a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0")))
    assert a.far_end == FarEnd() and direction(a.sent) is Direction.RECVONLY
    b.send_offer(a.receive_offer(sdp("192.0.2.1", 4000, "0")))
    a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0")))
    assert a.far_end.rtp == ("192.0.2.1", 4000) and direction(a.sent) is Direction.SENDRECV


def test_d_session_refresh_changes_nothing() -> None:
    a, b, offered, answered = call(answer=sdp("203.0.113.9", 7000, "0 8 101"))
    assert b.send_offer(a.receive_offer(sdp())) == offered
    assert a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0 8 101"))) == answered


def test_e_reinvite_without_sdp() -> None:
    a, b, _, answered = call()
    to_a = a.send_offer(b.receive_offer(sdp("203.0.113.9", 7000, "0 8 101", version=2)))
    assert version(to_a) == version(answered) + 1 and audio_line(to_a) == "m=audio 10000 RTP/AVP 0 8 101"
    to_b = b.send_answer(a.receive_answer(sdp(pts="0 101")))
    assert audio_line(to_b) == "m=audio 10002 RTP/AVP 0 101"


def test_f_update_changes_the_codec() -> None:
    a, b, *_ = call()
    assert b.codecs == {0: PCMU, 8: PCMA, 101: EVENT} and set(a.codecs) == {0, 8, 101}
    b.send_offer(a.receive_offer(sdp("192.0.2.7", 4100, "9 101")))
    assert b.codecs[9] == Codec("G722", 8000), "B may send by the new offer at once"
    assert a.far_end.rtp == ("192.0.2.1", 4000)
    answered = a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "9 101")))
    assert audio_line(answered) == "m=audio 10000 RTP/AVP 9 101"
    assert a.codecs == {9: Codec("G722", 8000), 101: EVENT} and a.far_end.rtp == ("192.0.2.7", 4100)


VIDEO_FIRST = (
    b"v=0\r\no=phone 1 1 IN IP4 192.0.2.1\r\ns=x\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    b"m=video 5000 RTP/AVP 96 97\r\na=rtpmap:96 VP8/90000\r\na=mid:0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\na=mid:1\r\n"
    b"m=audio 4002 RTP/AVP 8\r\n"
    b"m=application 5002 UDP/BFCP *\r\n"
)


def test_g_reinvite_from_b_keeps_every_m_line_of_a() -> None:
    a, b, offered, answered = call(VIDEO_FIRST, sdp("203.0.113.9", 7000, "0"))
    assert [m.kind for m in read(offered).media] == ["audio"]
    lines = [(m.kind, m.port, m.protocol, m.formats) for m in read(answered).media]
    assert lines == [
        ("video", 0, "RTP/AVP", ("96",)), ("audio", 10000, "RTP/AVP", ("0",)), ("audio", 0, "RTP/AVP", ("8",)),
        ("application", 0, "UDP/BFCP", ("*",)),
    ]  # fmt: skip
    to_a = a.send_offer(b.receive_offer(sdp("203.0.113.9", 7000, "0") + b"a=sendonly\r\n"))
    assert [(m.kind, m.port) for m in read(to_a).media] == [
        ("video", 0),
        ("audio", 10000),
        ("audio", 0),
        ("application", 0),
    ]
    answer = VIDEO_FIRST.replace(b"m=video 5000", b"m=video 0").replace(b"audio 4002", b"audio 0")
    to_b = b.send_answer(
        a.receive_answer(answer.replace(b"m=audio 4000 RTP/AVP 0\r\n", b"m=audio 4000 RTP/AVP 0\r\na=recvonly\r\n"))
    )
    assert [(m.kind, m.port) for m in read(to_b).media] == [("audio", 10002)]
    assert direction(to_b) is Direction.RECVONLY and a.far_end.rtp == ("192.0.2.1", 4000)


def test_g_m_lines_that_come_later_stay_too() -> None:
    a, b, *_ = call()
    a.send_offer(b.receive_offer(sdp("203.0.113.9", 7000, "0", "m=video 7002 RTP/AVP 31")))
    b.send_answer(a.receive_answer(sdp(pts="0")))
    to_b = b.send_offer(a.receive_offer(sdp(pts="0")))
    assert [(m.kind, m.port) for m in read(to_b).media] == [("audio", 10002), ("video", 0)]


def test_h_a_rejected_reinvite_leaves_everything_as_before() -> None:
    a, b, offered, answered = call()
    before = [(leg.far_end, leg.codecs, leg.stream, leg.state) for leg in (a, b)]
    rejected = b.send_offer(a.receive_offer(sdp("192.0.2.99", 4444, "3", "m=video 9 RTP/AVP 31")))
    a.rollback()
    b.rollback()
    assert [(leg.far_end, leg.codecs, leg.stream, leg.state) for leg in (a, b)] == before
    assert (a.sent, b.sent) == (answered, offered), "a session refresh is answered with what holds"
    again = b.send_offer(a.receive_offer(sdp()))
    assert version(again) == version(rejected) + 1, "a version that was on the wire is not used for something else"
    assert len(read(a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0")))).media) == 1


def test_h_a_bad_reinvite_changes_nothing() -> None:
    a, _, *_ = call()
    before = a.far_end, a.codecs
    for bad in (b"junk", sdp(audio="RTP/SAVP"), sdp("pc.example"), sdp(port=70000)):
        with pytest.raises(SdpError):
            a.receive_offer(bad)
        assert a.state is OfferState.STABLE and (a.far_end, a.codecs) == before


def test_i_forks_answer_one_after_the_other() -> None:
    a, b = legs()
    b.send_offer(a.receive_offer(sdp()))
    first = a.send_answer(b.receive_answer(sdp("203.0.113.1", 7000, "0"), fork="t1", final=False), final=False)
    assert b.far_end.rtp == ("203.0.113.1", 7000)
    second = a.send_answer(b.receive_answer(sdp("203.0.113.2", 7100, "8"), fork="t2", final=False), final=False)
    assert b.far_end.rtp == ("203.0.113.2", 7100)
    assert a.answer_changed and version(second) == version(first) + 1
    a.send_answer(b.receive_answer(b"", fork="t1"))
    assert b.far_end.rtp == ("203.0.113.1", 7000) and a.answer_changed and audio_line(a.sent) == audio_line(first)
    assert a.codecs[0] == PCMU


def test_i_forks_are_bounded() -> None:
    a, b = legs()
    b.send_offer(a.receive_offer(sdp()))
    for number in range(500):
        b.receive_answer(sdp("203.0.113.1", 7000, "0"), fork=f"t{number}", final=False)
    assert len(b._forks) <= 32


def test_j_ipv4_here_ipv6_there() -> None:
    a, b = LegSdp("198.51.100.1", 10000, session_id=1), LegSdp("2001:db8::1", 10002, session_id=2)
    offered = b.send_offer(a.receive_offer(sdp()))
    assert b"o=- 2 2 IN IP6 2001:db8::1\r\n" in offered and b"c=IN IP6 2001:db8::1\r\n" in offered
    with pytest.raises(NotAcceptable):
        b.receive_answer(sdp("203.0.113.9", 7000, "0"))
    answered = a.send_answer(b.receive_answer(sdp("2001:db8::9", 7000, "0")))
    assert b"c=IN IP4 198.51.100.1\r\n" in answered and b"2001" not in answered
    assert b.far_end == FarEnd(("2001:db8::9", 7000), ("2001:db8::9", 7001))
    assert address_families(sdp()) == {4} and address_families(sdp("2001:db8::9")) == {6}
    assert address_families(b"junk") == address_families(sdp("pc.example")) == frozenset()


@pytest.mark.parametrize(
    "offer",
    [
        sdp(audio="RTP/SAVP"),
        sdp(audio="UDP/TLS/RTP/SAVPF"),
        sdp("pc.example.com"),
        sdp("224.2.1.1"),
        sdp("255.255.255.255"),
        sdp("2001:db8::1"),
        sdp(port=0),
        sdp(pts="t38"),
        b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=video 4 RTP/AVP 31\r\n",
        b"v=0\r\nc=IN IP4 192.0.2.1\r\n",
        b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n",
    ],
)
def test_k_offers_that_cannot_be_met_are_488(offer: bytes) -> None:
    a, _ = legs()
    with pytest.raises(NotAcceptable) as caught:
        a.receive_offer(offer)
    assert caught.value.status == caught.value.sip_status == 488
    assert a.state is OfferState.STABLE and a.far_end == FarEnd() and a.codecs == {}


def test_k_savp_is_declined_beside_avp() -> None:
    both = sdp(audio="RTP/SAVP") + b"m=audio 4002 RTP/AVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"
    a, _, offered, answered = call(both, sdp("203.0.113.9", 7000, "8"))
    assert audio_line(offered) == "m=audio 10002 RTP/AVP 8" and b"crypto" not in offered
    assert [(m.protocol, m.port) for m in read(answered).media] == [("RTP/SAVP", 0), ("RTP/AVP", 10000)]
    assert a.far_end.rtp == ("192.0.2.1", 4002)


def test_avpf_is_offered_down_as_avp_and_answered_as_avpf() -> None:
    _, _, offered, answered = call(sdp(audio="RTP/AVPF") + b"a=rtcp-fb:* nack\r\n", sdp("203.0.113.9", 7000, "0"))
    assert audio_line(offered).split()[2] == "RTP/AVP" and audio_line(answered).split()[2] == "RTP/AVPF"
    assert b"rtcp-fb" not in offered


# -- what goes from leg to leg -----------------------------------------------------------------------------------------

LEAKS = (
    "i=information", "u=http://192.0.2.77/", "e=alice@inside.example", "p=+1 555 0100", "k=clear:secret",
    "a=candidate:1 1 UDP 2130706431 10.9.8.7 8998 typ host", "a=remote-candidates:1 10.9.8.7 8998", "a=ice-ufrag:uuuu",
    "a=ice-pwd:pppppppp", "a=alt:1 1 : 10.9.8.7 5000", "a=crypto:1 AES inline:key", "a=fingerprint:sha-1 AA:BB",
    "a=setup:actpass", "a=rtcp-mux", "a=rtcp:4999 IN IP4 10.9.8.7", "a=ssrc:12345 cname:alice@inside", "a=mid:0",
    "a=msid:x y", "a=extmap:1 urn:x", "a=rtcp-fb:0 nack", "a=tool:inside 1.0", "a=x-inside:10.9.8.7", "a=label:1",
    "a=rtpmap:55 not-in-the-line/8000", "a=fmtp:55 10.9.8.7", "a=rtpmap", "a=fmtp:", "a=cat:x",
    "a=source-filter: incl IN IP4 * 10.9.8.7",
)  # fmt: skip


def test_nothing_of_a_far_end_leaks() -> None:
    kept = ("a=ptime:20", "a=maxptime:60", "a=silenceSupp:off - - - -", "b=AS:64", "b=TIAS:64000")
    _, _, offered, answered = call(
        sdp("192.0.2.1", 4000, "0 101", *LEAKS, *kept), sdp("203.0.113.9", 7000, "0 101", *LEAKS, *kept)
    )
    for body, port in ((offered, 10002), (answered, 10000)):
        text = body.decode()
        lines = text.splitlines()
        assert lines[5:] == [
            f"m=audio {port} RTP/AVP 0 101", "b=AS:64", "b=TIAS:64000", "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-16", "a=ptime:20", "a=maxptime:60", "a=silenceSupp:off - - - -", "a=sendrecv",
        ]  # fmt: skip
        for word in ("192.0.2.", "203.0.113.", "10.9.8.7", "=phone", "inside", "secret", "+1"):
            assert word not in text


def test_rtcp_goes_where_the_far_end_says() -> None:
    a, *_ = call(sdp("192.0.2.1", 4000, "0", "a=rtcp:4999 IN IP4 192.0.2.2"))
    assert a.far_end.rtcp == ("192.0.2.2", 4999)
    for odd in (
        "a=rtcp:4999 IN IP4 a.example",
        "a=rtcp:0",
        "a=rtcp:99999",
        "a=rtcp:5 IN IP6 ::1",
        "a=rtcp:5 IN IP4 0.0.0.0",
    ):
        a, _ = legs()
        a.receive_offer(sdp("192.0.2.1", 4000, "0", odd))
        assert a.far_end.rtcp == ("192.0.2.1", 4001)
    a, _ = legs()
    a.receive_offer(sdp("192.0.2.1", 65535, "0"))
    assert a.far_end.rtcp == ("192.0.2.1", 65535)


def test_payload_types_may_differ_between_offer_and_answer() -> None:
    answer = sdp("203.0.113.9", 7000, "0 96", "a=rtpmap:96 TELEPHONE-event/8000")
    a, b, _, answered = call(sdp(), answer)
    assert audio_line(answered) == "m=audio 10000 RTP/AVP 0 96"
    assert a.codecs[96] == EVENT and b.codecs[101] == EVENT, "each leg sends by what was sent to it"


def test_the_meaning_of_a_number_is_that_of_what_was_sent_to_the_leg() -> None:
    offer = sdp("192.0.2.1", 4000, "96 97", "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 telephone-event/48000")
    answer = sdp("203.0.113.9", 7000, "97 96", "a=rtpmap:97 opus/48000/2", "a=rtpmap:96 telephone-event/48000")
    a, b, *_ = call(offer, answer)
    assert (a.codecs[97].name, b.codecs[96].name) == ("OPUS", "OPUS")
    assert (a.codecs[96].name, b.codecs[97].name) == ("TELEPHONE-EVENT", "TELEPHONE-EVENT")


def test_an_answer_keeps_to_the_offer() -> None:
    extra = sdp("203.0.113.9", 7000, "18 8 99 101", "a=rtpmap:99 opus/48000/2")
    assert audio_line(call(sdp(), extra)[3]) == "m=audio 10000 RTP/AVP 8 101"
    bare = sdp("203.0.113.9", 7000, "0 101").replace(b"a=rtpmap:101 telephone-event/8000\r\n", b"")
    assert b"a=rtpmap:101 telephone-event/8000\r\n" in call(sdp(), bare)[3]
    a, b = legs()
    b.send_offer(a.receive_offer(sdp()))
    for wrong in (sdp(pts="18"), sdp(pts="101", audio="RTP/SAVP"), b"v=0\r\n", b"", b"junk"):
        with pytest.raises(SdpError):
            b.receive_answer(wrong)
        assert b.state is OfferState.LOCAL_OFFER
    assert b.receive_answer(sdp(pts="8")).payload_types == (8,)


def test_an_answer_keeps_to_the_offered_direction() -> None:
    for offered, said, kept in (
        ("sendonly", "sendrecv", Direction.RECVONLY), ("inactive", "sendrecv", Direction.INACTIVE),
        ("recvonly", "recvonly", Direction.INACTIVE), ("sendrecv", "sendonly", Direction.SENDONLY),
    ):  # fmt: skip
        got = call(sdp() + f"a={offered}\r\n".encode(), sdp("203.0.113.9") + f"a={said}\r\n".encode())[3]
        assert direction(got) is kept


def test_a_stream_that_is_declined_or_switched_off() -> None:
    a, b, _, answered = call(sdp(), sdp("203.0.113.9", 0, "0"))
    assert audio_line(answered) == "m=audio 0 RTP/AVP 0 8 101" and b.far_end == FarEnd()
    a, b, *_ = call()
    off = b.send_offer(a.receive_offer(sdp(port=0, pts="0")))
    assert audio_line(off) == "m=audio 0 RTP/AVP 0"
    assert audio_line(a.send_answer(b.receive_answer(sdp("203.0.113.9", 7000, "0")))) == "m=audio 0 RTP/AVP 0"
    assert a.far_end == FarEnd()
    on = b.send_offer(a.receive_offer(sdp()))
    assert audio_line(on) == "m=audio 10002 RTP/AVP 0 8 101"


def test_answers_of_our_own() -> None:
    a, *_ = call()
    a.receive_offer(sdp(port=4100, pts="0 8"))
    body = a.answer_inactive()
    assert direction(body) is Direction.INACTIVE and audio_line(body) == "m=audio 10000 RTP/AVP 0 8"
    assert a.state is OfferState.STABLE and a.far_end.rtp == ("192.0.2.1", 4100)
    a.receive_offer(VIDEO_FIRST)
    assert [m.port for m in read(a.refuse()).media] == [0, 0, 0, 0]


def test_a_third_party_is_offered_what_the_other_leg_can() -> None:
    a, _, *_ = call()
    c = LegSdp("198.51.100.1", 10004, session_id=7)
    assert a.stream is not None
    assert audio_line(c.send_offer(a.stream.only((8, 101)))) == "m=audio 10004 RTP/AVP 8 101"


def test_offers_that_cross() -> None:
    a, b, *_ = call()
    stream = a.receive_offer(sdp())
    for leg, clash in ((a, lambda: a.receive_offer(sdp())), (a, lambda: a.send_offer(stream))):
        with pytest.raises(OfferAnswerError) as caught:
            clash()
        assert caught.value.status == 491 and leg.state is OfferState.REMOTE_OFFER
    b.send_offer(stream)
    with pytest.raises(OfferAnswerError) as caught:
        b.receive_offer(sdp())
    assert caught.value.status == 491
    a.rollback()
    b.rollback()
    for wrong in (lambda: a.receive_answer(sdp()), lambda: a.send_answer(stream), a.refuse, a.answer_inactive):
        with pytest.raises(OfferAnswerError) as caught:
            wrong()
        assert caught.value.status == 400
    a.rollback()
    assert a.state is OfferState.STABLE


def test_a_leg_whose_first_offer_was_rejected_starts_anew() -> None:
    a, b = legs()
    stream = a.receive_offer(VIDEO_FIRST)
    b.send_offer(stream)
    b.rollback()
    a.rollback()
    assert a.far_end == b.far_end == FarEnd() and a.codecs == b.codecs == {} and a.stream is None
    assert b.send_offer(a.receive_offer(sdp()))


_line = st.sampled_from(
    [
        "m=audio 4000 RTP/AVP 0 8 101", "m=audio 4000 RTP/AVP 96", "m=audio 0 RTP/AVP 0", "m=video 4 RTP/AVP 31",
        "m=audio 4000 RTP/SAVP 0", "c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0", "c=IN IP6 ::1", "c=IN IP4 x", "a=sendonly",
        "a=inactive", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 x=1", "a=rtpmap: ", "a=fmtp: x", "a=rtcp:5", "a=ptime:20",
    ]
)  # fmt: skip
_body = st.lists(_line, max_size=12).map(lambda lines: "\r\n".join(["v=0", *lines, ""]).encode())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abAB"), st.booleans(), _body, _body), max_size=8))
def test_any_sequence_keeps_the_rules(steps: list[tuple[str, bool, bytes, bytes]]) -> None:
    a, b = legs()
    seen: dict[LegSdp, list[bytes]] = {a: [], b: []}
    for who, accepted, offer, answer in steps:
        one, other = (a, b) if who in "aA" else (b, a)
        before = one.far_end, other.far_end
        try:
            seen[other].append(other.send_offer(one.receive_offer(offer)))
            if not accepted:
                raise NotAcceptable("rejected")
            seen[one].append(one.send_answer(other.receive_answer(answer)))
            assert len(read(one.sent).media) == len(read(offer).media)
        except SdpError:
            one.rollback()
            other.rollback()
            assert (one.far_end, other.far_end) == before
        assert a.state is b.state is OfferState.STABLE
    for leg, bodies in seen.items():
        by_version = {version(body): body for body in bodies}
        assert all(by_version[version(body)] == body for body in bodies), "one version, one description"
        assert [version(body) for body in bodies] == sorted(version(body) for body in bodies)
        for body in bodies:
            assert str(leg.host) in body.decode() and b"192.0.2." not in body
