"""100,000 and more mutated, cut, oversized and binary messages: nothing escapes, nothing is left behind."""

from __future__ import annotations

import gc
import itertools
import random
import sys

from gateway.sip import message, uri
from gateway.sip.errors import ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.framing import Framer
from gateway.sip.invite import InviteSession
from gateway.sip.message import Request, Response, parse
from gateway.sip.sdp import SessionDescription
from gateway.sip.transaction import ServerTransaction
from gateway.sip.uri import Uri
from gateway.sip.user_agent import Endpoint, UserAgent
from tests.support.mutator import mutations, stream_mutations

FLOW = Flow("udp", "192.0.2.1", 5060, "192.0.2.10", 5060)


def look_at_everything(data: bytes) -> None:
    """Parse, and read each header that the gateway reads. Raises SipError."""
    read = parse(data)
    read.check()
    _ = (read.from_.uri_text, read.to.tag, read.cseq, read.call_id, read.contact)
    if isinstance(read, Request):
        Uri.parse(read.uri)
        _ = read.max_forwards
    else:
        assert isinstance(read, Response)
        assert 100 <= read.status <= 699
    bytes(read)
    if read.body:
        SessionDescription.parse(read.body)


def test_only_the_documented_errors_leave_the_parser() -> None:
    good = 0
    for data in mutations(1, 60_000):
        try:
            look_at_everything(data)
            good += 1
        except SipError:
            continue
    assert good > 5_000, "the mutations must get past the first check"


class Server:
    """Answers every call at once."""

    def __init__(self) -> None:
        self.malformed = 0
        self.defects: list[Exception] = []
        self.invites = 0

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        self.invites += 1
        session.user = self  # type: ignore[assignment]
        session.provisional(180, now)
        session.answer(now, b"")

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        raise SipError(404)

    def on_malformed(self, flow: Flow, error: SipError) -> None:
        self.malformed += 1

    def on_exception(self, error: Exception) -> None:
        self.defects.append(error)

    def __getattr__(self, name: str) -> object:
        """Whatever else a session tells its user is of no interest."""
        if name.startswith("on_"):
            return lambda *arguments: None
        raise AttributeError(name)


def bombarded(seed: int, count: int) -> tuple[Server, UserAgent]:
    """A user agent after ``count`` messages, 2 ms apart, and the end of every timer that they started."""
    draw, numbers = random.Random(seed), itertools.count()
    server = Server()
    agent = UserAgent(
        server, [Endpoint("udp", FLOW.local_host, FLOW.local_port)],  # type: ignore[arg-type]
        token=lambda: f"{next(numbers):016x}", choose=draw.randint,
    )  # fmt: skip
    now = 0.0
    for number, data in enumerate(mutations(seed, count)):
        now += 0.002
        data = data.replace(b"z9hG4bK", b"z9hG4bK%d." % number).replace(b"Call-ID: ", b"Call-ID: %d." % number)
        agent.receive(data, FLOW, now)
        agent.advance(now)
        agent.take()
    while (deadline := agent.next_deadline()) is not None and deadline < now + 100_000:
        now = max(now, deadline)
        agent.advance(now)
        agent.take()
    return server, agent


def test_nothing_leaves_the_user_agent_and_nothing_stays_in_it() -> None:
    server, agent = bombarded(2, 30_000)
    assert server.defects == []
    assert server.malformed > 1000
    assert server.invites > 100
    assert len(agent.layer) == 0


def blocks() -> int:
    """Memory blocks in use; the bounded caches of parsed values are emptied first."""
    for module in (message, uri):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    gc.collect()
    return sys.getallocatedblocks()


def test_memory_stays_flat() -> None:
    """Ten thousand messages leave no memory behind but what the bounded caches keep."""
    bombarded(3, 5_000)
    before = blocks()
    for seed in (4, 5):
        bombarded(seed, 5_000)
    assert blocks() - before < 500


def test_streams_cut_anywhere() -> None:
    """Whole messages come out, or the stream is given up; the framer never holds more than a message."""
    frames = 0
    for chunks in stream_mutations(7, 10_000):
        framer = Framer()
        try:
            for chunk in chunks:
                for frame in framer.feed(chunk):
                    frames += 1
                    assert b"\r\n\r\n" in frame
                    assert len(frame) <= 65_535
        except ParseError:
            continue
    assert frames > 10_000
