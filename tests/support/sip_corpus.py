"""Messages and packets as phones, carriers and proxies send them: what the mutator starts from, and tests read.

Every Content-Length is right, every message well-formed; the strange ones are in ``sip_torture``.
"""

from __future__ import annotations

import struct

SDP = (
    b"v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    b"m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)
SDP_VIDEO = (
    b"v=0\r\no=- 3724394400 3724394405 IN IP4 198.51.100.7\r\ns=Blink\r\nc=IN IP4 198.51.100.7\r\nb=AS:512\r\nt=0 0\r\n"
    b"a=group:BUNDLE 0 1\r\nm=audio 50000 UDP/TLS/RTP/SAVPF 111 0\r\na=mid:0\r\na=ice-ufrag:F7gI\r\n"
    b"a=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\na=fingerprint:sha-1 42:89:C5:C6:55:9D:6E:C8\r\n"
    b"a=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
    b"m=video 50002 RTP/AVP 96\r\nc=IN IP6 2001:db8::7\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack pli\r\n"
)
SDP_HOLD = SDP.replace(b"a=sendrecv", b"a=sendonly").replace(b"2890844526 IN", b"2890844527 IN")
SDP_OLD_HOLD = SDP.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 0.0.0.0")
SDP_V6 = SDP.replace(b"IN IP4 192.0.2.10", b"IN IP6 2001:db8::10")
SDPS = (SDP, SDP_VIDEO, SDP_HOLD, SDP_OLD_HOLD, SDP_V6)


def sip(start: str, *headers: str, body: bytes = b"", kind: str = "application/sdp") -> bytes:
    """A message with its Content-Type (where there is a body) and Content-Length."""
    lines = [start, *headers]
    if body:
        lines.append(f"Content-Type: {kind}")
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1") + body


_DIALOG = (
    "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK74bf9;rport",
    "Max-Forwards: 70",
    "From: Alice <sip:alice@gw.example.com>;tag=9fxced76sl",
    "To: Bob <sip:bob@gw.example.com>;tag=8321234356",
    "Call-ID: 3848276298220188511@192.0.2.10",
)
_INVITE = (
    "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKnashds8;rport",
    "Max-Forwards: 70",
    'From: "Alice \\"A\\" Smith" <sip:alice@gw.example.com>;tag=1928301774',
    "To: <sip:+12125550100@gw.example.com;user=phone>",
    "Call-ID: a84b4c76e66710@192.0.2.10",
    "CSeq: 314159 INVITE",
    "Contact: <sip:alice@192.0.2.10:5060;transport=udp>",
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE",
    "Supported: replaces, timer, 100rel",
    "User-Agent: Phone/1.0",
)
_ANSWER = (
    "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKb2bua1;rport=5060;received=198.51.100.1",
    "Record-Route: <sip:proxy1.example.net;lr>, <sip:203.0.113.1:5070;lr;transport=tcp>",
    "From: <sip:+12125550199@198.51.100.1>;tag=gw1",
    "To: <sip:+12125550100@carrier.example.net>;tag=as5e9c1d",
    "Call-ID: b2b-1@198.51.100.1",
    "CSeq: 1 INVITE",
)
_DIGEST = (
    'Digest username="alice", realm="gw.example.com", nonce="5f5e100.ab12.0123456789abcdef0123456789abcdef", '
    'uri="sip:gw.example.com", response="0123456789abcdef0123456789abcdef", algorithm=MD5, cnonce="0a4f113b", '
    'qop=auth, nc=00000001, opaque="5ccc069c403ebaf9"'
)

MESSAGES: dict[str, bytes] = {
    "register": sip(
        "REGISTER sip:gw.example.com SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-r1;rport",
        "Max-Forwards: 70",
        "From: <sip:alice@gw.example.com>;tag=r1",
        "To: <sip:alice@gw.example.com>",
        "Call-ID: reg-1@192.0.2.10",
        "CSeq: 1 REGISTER",
        "Expires: 3600",
        'Contact: <sip:alice@192.0.2.10:5060;transport=udp>;+sip.instance="<urn:uuid:0-0-1000-8000-000A95A0E1>"',
    ),
    "register-digest": sip(
        "REGISTER sip:gw.example.com SIP/2.0",
        "Via: SIP/2.0/TCP 192.0.2.10:40112;branch=z9hG4bK-r2;rport;alias",
        "Max-Forwards: 70",
        "From: <sip:alice@gw.example.com>;tag=r2",
        "To: <sip:alice@gw.example.com>",
        "Call-ID: reg-1@192.0.2.10",
        "CSeq: 2 REGISTER",
        f"Authorization: {_DIGEST}",
        "Contact: <sip:alice@192.0.2.10:40112;transport=tcp>;expires=600;q=0.7, <sip:alice@10.0.0.1>;expires=0",
    ),
    "register-star": sip(
        "REGISTER sip:gw.example.com SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-r3",
        "Max-Forwards: 70",
        "From: <sip:alice@gw.example.com>;tag=r3",
        "To: <sip:alice@gw.example.com>",
        "Call-ID: reg-1@192.0.2.10",
        "CSeq: 3 REGISTER",
        "Contact: *",
        "Expires: 0",
    ),
    "invite": sip("INVITE sip:+12125550100@gw.example.com;user=phone SIP/2.0", *_INVITE, body=SDP),
    "invite-no-sdp": sip("INVITE sip:+12125550100@gw.example.com SIP/2.0", *_INVITE),
    "invite-video": sip("INVITE sip:bob@[2001:db8::5]:5070 SIP/2.0", *_INVITE, body=SDP_VIDEO),
    "invite-digest": sip(
        "INVITE tel:+12125550100 SIP/2.0",
        *_INVITE,
        f"Proxy-Authorization: {_DIGEST}",
        "X-Prospect-State: US-NH",
        "Route: <sip:gw.example.com;lr>",
        "P-Asserted-Identity: <tel:+12125550199>",
        body=SDP_V6,
    ),
    "invite-compact": sip(
        "INVITE sip:bob@gw.example.com SIP/2.0",
        "v: SIP/2.0/TCP [2001:db8::9]:5060;branch=z9hG4bKc1;rport",
        "Max-Forwards: 70",
        "f: Alice <sip:alice@gw.example.com>;tag=c1",
        "t: <sip:bob@gw.example.com>",
        "i: compact-1",
        "CSeq: 1 INVITE",
        "m: <sip:alice@[2001:db8::9]:5060;transport=tcp>",
        "k: timer",
        "x: 1800;refresher=uac",
        body=SDP_V6,
    ),
    "invite-multipart": sip(
        "INVITE sip:bob@gw.example.com SIP/2.0",
        *_INVITE,
        kind='multipart/mixed; boundary="b1"',
        body=b"--b1\r\nContent-Type: application/sdp\r\n\r\n"
        + SDP
        + b"\r\n--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x00\xff\r\n--b1--\r\n",
    ),
    "trying": sip("SIP/2.0 100 Trying", _ANSWER[0], *_ANSWER[2:4], *_ANSWER[4:]),
    "ringing": sip("SIP/2.0 180 Ringing", *_ANSWER, "Contact: <sip:gw@203.0.113.9:5060>"),
    "progress": sip("SIP/2.0 183 Session Progress", *_ANSWER, "Contact: <sip:203.0.113.9>", "RSeq: 1", body=SDP),
    "ok": sip("SIP/2.0 200 OK", *_ANSWER, "Contact: <sip:+12125550100@203.0.113.9:5060;transport=udp>", body=SDP),
    "ok-fork": sip(
        "SIP/2.0 200 OK",
        *(h.replace("as5e9c1d", "fork2") for h in _ANSWER),
        "Contact: <sip:x@203.0.113.8>",
        body=SDP_V6,
    ),
    "moved": sip("SIP/2.0 302 Moved Temporarily", *_ANSWER, "Contact: <sip:c@other.example>;q=0.5, <tel:+1212>"),
    "unauthorized": sip(
        "SIP/2.0 401 Unauthorized",
        *_ANSWER,
        'WWW-Authenticate: Digest realm="carrier", nonce="n1", algorithm=SHA-256, qop="auth,auth-int", opaque="o"',
        'WWW-Authenticate: Digest realm="carrier", nonce="n1", algorithm=MD5, qop="auth"',
    ),
    "proxy-auth": sip(
        "SIP/2.0 407 Proxy Authentication Required",
        *_ANSWER,
        'Proxy-Authenticate: Digest realm="c", nonce="n2", stale=TRUE',
    ),
    "busy": sip("SIP/2.0 486 Busy Here", *_ANSWER, "Retry-After: 120 (in a meeting);duration=30"),
    "not-acceptable": sip("SIP/2.0 488 Not Acceptable Here", *_ANSWER, 'Warning: 304 gw "Media type not available"'),
    "unavailable": sip("SIP/2.0 503 Service Unavailable", *_ANSWER, "Retry-After: 5"),
    "decline": sip("SIP/2.0 603 Decline", *_ANSWER),
    "ack": sip(
        "ACK sip:bob@198.51.100.1:5060 SIP/2.0", *_DIALOG, "CSeq: 314159 ACK", "Route: <sip:proxy1.example.net;lr>"
    ),
    "ack-answer": sip("ACK sip:bob@198.51.100.1:5060 SIP/2.0", *_DIALOG, "CSeq: 314160 ACK", body=SDP),
    "bye": sip(
        "BYE sip:bob@198.51.100.1:5060 SIP/2.0", *_DIALOG, "CSeq: 314161 BYE", 'Reason: Q.850;cause=16;text="Normal"'
    ),
    "cancel": sip(
        "CANCEL sip:+12125550100@gw.example.com;user=phone SIP/2.0",
        *_INVITE[:5],
        "CSeq: 314159 CANCEL",
    ),
    "update": sip(
        "UPDATE sip:bob@198.51.100.1:5060 SIP/2.0",
        *_DIALOG,
        "CSeq: 314162 UPDATE",
        "Contact: <sip:alice@192.0.2.10>",
        body=SDP,
    ),
    "reinvite-hold": sip(
        "INVITE sip:bob@198.51.100.1:5060 SIP/2.0",
        *_DIALOG,
        "CSeq: 314163 INVITE",
        "Contact: <sip:alice@192.0.2.10>",
        body=SDP_HOLD,
    ),
    "reinvite-old-hold": sip(
        "INVITE sip:bob@198.51.100.1:5060 SIP/2.0",
        *_DIALOG,
        "CSeq: 314164 INVITE",
        "Contact: <sip:alice@192.0.2.10>",
        body=SDP_OLD_HOLD,
    ),
    "reinvite-no-sdp": sip(
        "INVITE sip:bob@198.51.100.1:5060 SIP/2.0", *_DIALOG, "CSeq: 314165 INVITE", "Contact: <sip:alice@192.0.2.10>"
    ),
    "options": sip(
        "OPTIONS sip:gw.example.com SIP/2.0",
        "Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKo1",
        "Max-Forwards: 1",
        "From: sip:ping@203.0.113.9;tag=o1",
        "To: sip:gw.example.com",
        "Call-ID: opt-1",
        "CSeq: 1 OPTIONS",
        "Accept: application/sdp",
    ),
    "info": sip(
        "INFO sip:bob@198.51.100.1 SIP/2.0",
        *_DIALOG,
        "CSeq: 314166 INFO",
        body=b"Signal=5\r\nDuration=160\r\n",
        kind="application/dtmf-relay",
    ),
    "refer": sip(
        "REFER sip:bob@198.51.100.1 SIP/2.0",
        *_DIALOG,
        "CSeq: 314167 REFER",
        "Refer-To: <sip:carol@x?Replaces=1%3Bto-tag%3Da>",
    ),
    "prack": sip("PRACK sip:bob@198.51.100.1 SIP/2.0", *_DIALOG, "CSeq: 314168 PRACK", "RAck: 1 314159 INVITE"),
}
"""Name -> a well-formed message."""


def _rtp(
    payload: bytes,
    *,
    first: int = 0x80,
    marker: int = 0,
    pt: int = 0,
    seq: int = 1,
    ts: int = 160,
    ssrc: int = 0xDECAFBAD,
) -> bytes:
    return struct.pack("!BBHII", first, marker << 7 | pt, seq, ts, ssrc) + payload


def _rtcp(kind: int, payload: bytes, count: int = 0) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(payload) // 4) + payload


_SSRC = struct.pack("!I", 0xDECAFBAD)
_REPORT = struct.pack("!IBBHIIII", 0x12345678, 12, 0, 3, 65537, 40, 0x5E0F, 0x10000)

RTP_PACKETS: dict[str, bytes] = {
    "pcmu": _rtp(b"\xff" * 160),
    "pcma-marker": _rtp(b"\xd5" * 160, marker=1, pt=8, seq=65535, ts=0xFFFFFFFF),
    "csrc": _rtp(b"\x00\x00\x00\x01\x00\x00\x00\x02" + b"\x7f" * 160, first=0x82),
    "extension": _rtp(b"\xbe\xde\x00\x01\x10\xff\x00\x00" + b"\x7f" * 160, first=0x90),
    "padding": _rtp(b"\x7f" * 156 + b"\0\0\0\4", first=0xA0),
    "dtmf": _rtp(b"\x05\x0a\x01\x40", pt=101, marker=1),
    "dtmf-end": _rtp(b"\x05\x8a\x03\x20", pt=101),
    "comfort-noise": _rtp(b"\x3c", pt=13),
    "opus": _rtp(b"\x78" + b"\x5a" * 79, pt=111, ts=960),
    "empty": _rtp(b""),
}
"""Name -> a well-formed RTP packet (RFC 3550 §5.1)."""

RTCP_PACKETS: dict[str, bytes] = {
    "sender-report": _rtcp(200, _SSRC + struct.pack("!QIII", 0xE8D4A51000000000, 160, 50, 8000) + _REPORT, 1)
    + _rtcp(202, _SSRC + b"\x01\x05a@b.c\x00", 1),
    "receiver-report": _rtcp(201, _SSRC + _REPORT, 1),
    "bye": _rtcp(201, _SSRC) + _rtcp(203, _SSRC + b"\x03bye", 1),
    "app": _rtcp(204, _SSRC + b"TEST" + b"\0" * 8, 3),
    "feedback": _rtcp(205, _SSRC + _SSRC + struct.pack("!HH", 5, 1), 1),
}
"""Name -> a well-formed RTCP (compound) packet (RFC 3550 §6)."""
