"""What the fuzzer drives: bytes in; whatever a target raises is a finding. They run without the fuzzer, too."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from gateway.b2bua.media_bridge import MediaBridge
from gateway.guard.guard import Guard, GuardLimits, Known
from gateway.sip.digest import Challenge, Credentials, DigestServer, Ha1Pair, authorization_for
from gateway.sip.errors import ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.framing import Framer
from gateway.sip.invite import InviteSession
from gateway.sip.message import MAX_MESSAGE, Request, Response, parse
from gateway.sip.offer_answer import address_families
from gateway.sip.sdp import SdpError, SessionDescription
from gateway.sip.transaction import ServerTransaction
from gateway.sip.uri import NameAddr, Uri, escaped_user, is_ip
from gateway.sip.user_agent import Endpoint, UserAgent
from media.engine import CaptureMode, RecordingRequest, Side
from tests.support.fakes import FakeMediaSession
from tests.support.sip_corpus import SDP

PEER, STRANGER = (Flow("udp", "192.0.2.1", 5060, host, 5060) for host in ("192.0.2.10", "198.51.100.7"))


def message(data: bytes) -> None:
    """Everything that can be read out of a message; what it prints reads back the same."""
    try:
        found = parse(data)
    except ParseError:
        return
    for name in ("via", "call_id", "cseq", "from_", "to", "contact", "content_type", "max_forwards", "check"):
        try:
            value = getattr(found, name, None)
            if callable(value):
                value()
            if isinstance(value, NameAddr):
                look_at_address(value)
        except ParseError:
            continue
    for name in ("route", "record-route", "require", "supported", "accept", "allow"):
        try:
            found.values(name)
            found.tokens(name)
        except ParseError:
            continue
    printed = bytes(found)
    assert printed.count(b"\r") >= printed.partition(b"\r\n\r\n")[0].count(b"\n"), "no line ends in a bare LF"
    if len(printed) <= MAX_MESSAGE and found.defect is None:
        again = parse(printed)
        assert type(again) is type(found) and again.body == found.body
        assert [h for h in again.headers if h[0] != "content-length"] == [
            h for h in found.headers if h[0] != "content-length"
        ]


def look_at_address(address: NameAddr) -> None:
    uri = address.uri
    assert Uri.parse(str(uri)) == uri
    assert not set("\r\n@<> ") & set(escaped_user(uri.username))
    _ = address.display_name, uri.secure, uri.transport, str(address)


def sdp(data: bytes) -> None:
    """A description: as it is read and printed, as an offer to the other leg, and as the answer to an offer."""
    try:
        found = SessionDescription.parse(data)
        assert SessionDescription.parse(bytes(found)) == found
    except SdpError:
        pass
    address_families(data)
    offering, answering = bridge(), bridge()
    try:
        SessionDescription.parse(offering.offer_from(Side.AGENT, data))
        SessionDescription.parse(offering.answer_from(Side.PROSPECT, SDP))
        offering.is_refresh(Side.AGENT, data)
    except SdpError:
        offering.rollback()
    answering.offer_from(Side.AGENT, SDP)
    try:
        SessionDescription.parse(answering.answer_from(Side.PROSPECT, data, fork="x", final=False))
        SessionDescription.parse(answering.answer_from(Side.PROSPECT, data))
    except SdpError:
        answering.rollback()


def bridge() -> MediaBridge:
    request = RecordingRequest("acme", "call", decision={}, call={})
    session = FakeMediaSession(("192.0.2.1", "192.0.2.1"), (30000, 30002), CaptureMode.BOTH, request)
    return MediaBridge(session, {}, lambda low, high: low)


def stream(data: bytes) -> None:
    """One connection's bytes, cut where the first of them say: whole messages of bounded size, or the end."""
    cuts, rest = data[:4], data[4:]
    framer, at = Framer(), 0
    try:
        for cut in itertools.cycle(cuts or b"\x07"):
            chunk = rest[at : at + cut + 1]
            if not chunk:
                break
            at += len(chunk)
            for frame in framer.feed(chunk):
                assert b"\r\n\r\n" in frame and len(frame) <= MAX_MESSAGE
    except ParseError:
        return
    assert len(framer._buffer) <= MAX_MESSAGE + 256


def digest(data: bytes) -> None:
    """A challenge to answer, and credentials to check; nothing gets in."""
    text = data.decode("latin-1")
    Challenge.parse(text)
    authorization_for([text], "INVITE", "sip:x@h", "alice", "secret", cnonce="c")
    server = DigestServer("gw", b"s" * 16)
    found = Credentials.parse(text)
    if found is not None:
        assert server.verify(found, "INVITE", "sip:x@h", Ha1Pair("0" * 32, "0" * 64), 10.0).name != "OK"


class Ends:
    """A user agent's handler that answers every call with SDP, and says yes to nothing else."""

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        session.user = self  # type: ignore[assignment]
        session.provisional(180, now)
        session.answer(now, SDP)

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        raise SipError(404)

    def on_malformed(self, flow: Flow, error: SipError) -> None: ...

    def on_exception(self, error: Exception) -> None:
        raise error

    def __getattr__(self, name: str) -> object:
        """Whatever else a session or the guard tells is of no interest."""
        return lambda *arguments: None


class Agents:
    """A user agent that lives through all inputs, with a guard; time passes between them."""

    def __init__(self) -> None:
        self.now = 1000.0
        numbers = itertools.count()
        ends = Ends()
        guard = Guard(
            GuardLimits(requests=1e9, challenges=1e9),
            lambda flow: Known("peer") if flow == PEER else None,
            DigestServer("gw", b"s" * 16), lambda: f"{next(numbers):016x}", ends,  # type: ignore[arg-type]
        )  # fmt: skip
        self.agent = UserAgent(
            ends, [Endpoint("udp", "192.0.2.1", 5060)],  # type: ignore[arg-type]
            token=lambda: f"{next(numbers):016x}", choose=lambda low, high: low, guard=guard,
        )  # fmt: skip

    def receive(self, data: bytes) -> None:
        """From a peer and from a stranger; what goes out can be read, answers go back to where the request came from,
        and requests (in calls that the peer made) to an address."""
        for flow in (PEER, STRANGER):
            self.now += 0.05
            self.agent.receive(data, flow, self.now)
            self.agent.advance(self.now)
            for to, sent in self.agent.take():
                assert 0 < to.remote_port < 65536 and is_ip(to.remote_host)
                if isinstance(parse(sent), Response):
                    assert to.remote_host in (PEER.remote_host, STRANGER.remote_host)
        assert len(self.agent.layer) < 5000


def proof(data: bytes) -> None:
    """Not a target but a proof: chance alone does not find this, following the branches does."""
    if data[:1] == b"S":  # noqa: SIM102
        if data[1:2] == b"I":  # noqa: SIM102
            if data[2:3] == b"P":  # noqa: SIM102
                if data[3:4] == b"!":
                    raise RuntimeError("found")


def agent() -> Callable[[bytes], None]:
    return Agents().receive


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "message": lambda: message,
    "sdp": lambda: sdp,
    "stream": lambda: stream,
    "digest": lambda: digest,
    "agent": agent,
    "proof": lambda: proof,
}
"""By name, what makes the function that takes an input."""
