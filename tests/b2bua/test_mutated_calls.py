"""Whole calls in memory whose messages are mutated, lost and repeated on the way: nothing escapes, nothing is left.

Unlike messages mutated one by one, these reach the dialogs, the offer/answer and the call logic: every mutation is made
to a message that would have been the right one at that moment.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from random import Random

from gateway.b2bua.authentication import Authenticator
from gateway.b2bua.call import CallLimits
from gateway.b2bua.calls import CallSettings, CallTable
from gateway.b2bua.routing import Peer, Router, Trunk
from gateway.b2bua.termination import Kind
from gateway.sip.digest import DigestServer
from gateway.sip.errors import ParseError
from gateway.sip.flow import Flow
from gateway.sip.message import Request, Response, parse
from gateway.sip.user_agent import Endpoint, UserAgent
from gateway.store.records import Agent
from tests.b2bua.conftest import Counting, FakeGate
from tests.support.fakes import FakeMedia, FakeStore
from tests.support.mutator import mutate
from tests.support.sip_corpus import SDP, SDPS, sip

GATEWAY, PHONE, CARRIER = ("192.0.2.1", 5060), ("192.0.2.10", 5060), ("203.0.113.9", 5060)
AGENT_SIDE, CARRIER_SIDE = Flow("udp", *GATEWAY, *PHONE), Flow("udp", *GATEWAY, *CARRIER)
FINALS = (200, 200, 200, 200, 200, 302, 401, 407, 408, 481, 486, 488, 491, 503, 600)


class World:
    """A gateway without sockets, a phone and a carrier that do as chance wills. ``rate``: mutated messages of all."""

    def __init__(self, seed: int, rate: float) -> None:
        self.random, self.rate, self.now = Random(seed), rate, 0.0
        self.metrics, self.store, self.media = Counting(), FakeStore(), FakeMedia()
        self.store.directory.agents["alice"] = Agent(1, "alice", "acme", country="US", state="US-TX")
        self.sent: deque[tuple[Flow, bytes]] = deque()
        self.unreadable = 0
        self.table = CallTable(
            CallSettings(10**6, (GATEWAY[0],), {}, frozenset(), True),
            CallLimits(),
            store=self.store,  # type: ignore[arg-type]
            gate=FakeGate(self.store),  # type: ignore[arg-type]
            media=self.media,
            router=Router(
                (Trunk("carrier", *CARRIER, username="u", password="p"),),
                [Peer("pbx", (ipaddress.ip_network("192.0.2.0/24"),), "acme", user="alice")],
            ),
            authenticator=Authenticator(DigestServer("gw", b"x" * 16)),
            metrics=self.metrics,
        )
        self.table._clock = lambda: self.now  # type: ignore[method-assign]
        self.agent = UserAgent(
            self.table,
            [Endpoint("udp", *GATEWAY)],
            token=lambda: f"{self.random.getrandbits(64):016x}",
            choose=self.random.randint,
        )
        self.table.agent, self.table.flush = self.agent, self.pump

    def pump(self) -> None:
        self.sent.extend(self.agent.take())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.agent.advance(self.now)
        self.pump()

    def sdp(self) -> bytes:
        return self.random.choice((*SDPS, b"", SDP, SDP, SDP))

    def feed(self, data: bytes, flow: Flow) -> None:
        """Let the gateway receive ``data``: mutated, lost or twice, if it comes so."""
        if self.random.random() < self.rate:
            data = mutate(self.random, data)
        if self.random.random() < 0.03:
            return
        for _ in range(2 if self.random.random() < 0.05 else 1):
            self.agent.receive(data, flow, self.now)
            self.pump()

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)
        self.pump()


class Phone:
    """One caller and the call it makes."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.cseq = world, number, 1
        self.to = "<sip:+12125550100@gw.example>"
        self.answered = False

    def send(self, method: str, cseq: int, body: bytes = b"", *, branch: str = "", to: str = "") -> None:
        message = sip(
            f"{method} sip:+12125550100@192.0.2.1 SIP/2.0",
            f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{self.number}{branch or f'{cseq}{method}'};rport",
            "Max-Forwards: 70",
            f"From: <sip:alice@gw.example>;tag=a{self.number}",
            f"To: {to or self.to}",
            f"Call-ID: call{self.number}",
            f"CSeq: {cseq} {method}",
            "Contact: <sip:alice@192.0.2.10:5060>",
            body=body,
        )
        self.world.feed(message, AGENT_SIDE)

    def act(self) -> None:
        """Something within the call, or a CANCEL, or nothing."""
        random = self.world.random
        if self.answered and random.random() < 0.7:
            self.cseq += 1
            method = random.choice(("INVITE", "INVITE", "UPDATE", "BYE", "OPTIONS", "INFO"))
            self.send(method, self.cseq, self.world.sdp() if method in ("INVITE", "UPDATE") else b"")
        elif not self.answered and random.random() < 0.2:
            self.send("CANCEL", 1, branch="1INVITE")
        elif random.random() < 0.05:
            self.world.agent.transport_failed(random.choice((AGENT_SIDE, CARRIER_SIDE)), self.world.now)
            self.world.pump()

    def hear(self, response: Response) -> None:
        """ACK what is to be ACKed."""
        number, method = response.cseq
        if method != "INVITE" or response.status < 200:
            return
        random, to = self.world.random, response.get("to") or ""
        if response.status >= 300:
            self.send("ACK", number, branch=f"{number}INVITE", to=to)
            return
        self.to, self.answered = to, True
        if random.random() < 0.95:
            self.send("ACK", number, self.world.sdp() if random.random() < 0.5 else b"", branch=f"{random.random()}")


def carrier_answers(world: World, request: Request, flow: Flow) -> None:
    """Early and final responses of one or two forks."""
    random = world.random
    if request.method == "ACK":
        return
    if request.method != "INVITE":
        body = world.sdp() if request.method == "UPDATE" else b""
        world.feed(reply(request, random.choice((200, 200, 200, 481, 491, 488)), "x", body), flow)
        return
    tags = random.choice((("x",), ("x", "y")))
    for tag in tags:
        if random.random() < 0.5:
            world.feed(reply(request, random.choice((180, 183)), tag, random.choice((b"", world.sdp()))), flow)
    if random.random() < 0.9:
        status = random.choice(FINALS)
        world.feed(reply(request, status, random.choice(tags), world.sdp() if status == 200 else b""), flow)
    if random.random() < 0.05:
        world.feed(reply(request, 200, "late", world.sdp()), flow)


def reply(request: Request, status: int, tag: str, body: bytes = b"") -> bytes:
    headers = [("contact", "<sip:peer@203.0.113.9:5060>")]
    if body:
        headers.append(("content-type", "application/sdp"))
    if status in (401, 407):
        name = "www-authenticate" if status == 401 else "proxy-authenticate"
        headers.append((name, 'Digest realm="c", nonce="n", qop="auth"'))
    response = request.response(status, to_tag=tag, headers=headers)
    response.body = body
    return bytes(response)


def deliver(world: World, phone: Phone, flow: Flow, data: bytes) -> None:
    """Take one message of the gateway to where it goes. All it sends can be read, and goes to a real port."""
    assert 0 < flow.remote_port <= 65535
    message = parse(data)
    try:
        message.check()
    except ParseError:
        # a refusal repeats the headers of what it refuses (RFC 3261 §8.2.6), whatever is wrong with them
        assert isinstance(message, Response) and message.status in (400, 505)
        world.unreadable += 1
        return
    if isinstance(message, Request):
        carrier_answers(world, message, AGENT_SIDE if flow.remote_host == PHONE[0] else CARRIER_SIDE)
    elif flow.remote_host == PHONE[0]:
        phone.hear(message)


async def one_call(world: World, number: int) -> None:
    phone = Phone(world, number)
    phone.send("INVITE", 1, world.sdp())
    budget = 60
    for _ in range(12):
        await world.settle()
        while world.sent and budget:
            budget -= 1
            deliver(world, phone, *world.sent.popleft())
        if not budget:
            world.sent.clear()
        phone.act()
        world.advance(world.random.choice((0.01, 0.3, 1.1)))
    world.advance(world.random.choice((0.01, 0.6, 3, 40)))


async def test_mutated_calls_leave_nothing_behind() -> None:
    world = World(seed=23, rate=0.15)
    for number in range(500):
        await one_call(world, number)
    assert world.metrics.exceptions == []
    assert len(world.table.calls) < 50, "calls end while others begin"
    for call in tuple(world.table.calls.values()):
        call.hang_up(Kind.SHUTDOWN, world.now)
    for _ in range(200):
        world.advance(1)
        world.sent.clear()
        await asyncio.sleep(0)
    assert world.metrics.exceptions == [] and not world.table.calls
    assert all(session.closed is not None for session in world.media.sessions)
    kinds = {str(termination.kind) for termination in world.metrics.terminations}
    assert {"completed", "rejected", "cancelled", "busy", "no_answer"} <= kinds
    assert world.metrics.malformed_count > 100
