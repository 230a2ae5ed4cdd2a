"""A gateway's call logic on loopback sockets between scripted phones, with store, gate and media in memory."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.b2bua.authentication import Authenticator
from gateway.b2bua.call import CallLimits
from gateway.b2bua.calls import CallSettings, CallTable
from gateway.b2bua.gate import Gated
from gateway.b2bua.identity import Caller
from gateway.b2bua.keys import ControlKeys
from gateway.b2bua.routing import Peer, Router, Trunk
from gateway.b2bua.termination import Termination
from gateway.sip.digest import DigestServer, ha1
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.user_agent import UserAgent
from gateway.store.records import Agent, CallEnded, DecisionMade, SipCredential
from gateway.transport.endpoint import SipTransport
from media.quality import SessionQuality
from scripts.phone import Phone, PhoneCall
from tests.support.fakes import FakeMedia, FakeMediaSession, FakeStore

REALM = "twoparty"


class FakeGate:
    """Decides ``mode`` for every call."""

    generation = 0

    def __init__(self, store: FakeStore) -> None:
        self.mode = "both"
        self.asked: list[Caller] = []
        self._store = store

    async def decide(self, call_id: str, caller: Caller, now: datetime) -> Gated:
        self.asked.append(caller)
        return Gated(self.mode, DecisionMade(call_id, self.mode, "one_party", 12, 1, "test", now))

    async def refresh(self) -> None:
        return

    def store(self, gated: Gated) -> asyncio.Future[None]:
        return self._store.journal.decision_made(gated.record)


class Counting:
    """Metrics that remember; an exception in the gateway fails the test at its end."""

    def __init__(self) -> None:
        self.terminations: list[Termination] = []
        self.exceptions: list[Exception] = []
        self.malformed_count = 0
        self.limits: list[str] = []

    def call_started(self) -> None: ...

    def call_ended(self, termination: Termination) -> None:
        self.terminations.append(termination)

    def decided(self, mode: str, reason: str) -> None: ...

    def recorded(self, outcome: str) -> None: ...
    def quality(self, quality: SessionQuality) -> None: ...

    def malformed(self, flow: Flow, error: SipError) -> None:
        self.malformed_count += 1

    def exception(self, error: Exception) -> None:
        self.exceptions.append(error)

    def limited(self, reason: str) -> None:
        self.limits.append(reason)


@dataclass
class Lab:
    """One gateway and its phones."""

    host: str
    transport: str
    store: FakeStore = field(default_factory=FakeStore)
    media: FakeMedia = field(default_factory=FakeMedia)
    metrics: Counting = field(default_factory=Counting)
    phones: list[Phone] = field(default_factory=list)
    table: CallTable = field(init=False)
    sip: SipTransport = field(init=False)

    def __post_init__(self) -> None:
        self.gate = FakeGate(self.store)
        self.add_agent("alice")

    def add_agent(self, username: str, organization: str = "acme", password: str = "secret", did: str = "") -> None:
        agent = Agent(len(self.store.directory.agents) + 1, username, organization, country="US", state="US-TX")
        hashes = [ha1(username, REALM, password, name) for name in ("MD5", "SHA-256")]
        self.store.directory.agents[username] = agent
        self.store.directory.credentials[username] = SipCredential(agent, REALM, *hashes)
        if did:
            self.store.directory.dids[did] = username

    async def phone(self, **options: Any) -> Phone:
        phone = await Phone.open(self.host, self.transport, **options)
        phone.plays = False
        self.phones.append(phone)
        return phone

    async def serve(
        self,
        *carriers: Phone,
        peers: bool = True,
        limits: CallLimits | None = None,
        trusted: bool = False,
        passed: frozenset[str] = frozenset(),
        max_calls: int = 100,
        trunks: tuple[Trunk, ...] | None = None,
    ) -> None:
        """Start the gateway, a trunk for each carrier; all of loopback is a peer unless ``peers`` is off."""
        self.sip = SipTransport([(self.transport, self.host, 0)])
        network = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
        if trunks is None:
            trunks = tuple(Trunk(f"trunk{i}", self.host, c.port, self.transport) for i, c in enumerate(carriers))
        self.table = CallTable(
            CallSettings(max_calls, (self.host,), {}, passed, True, ControlKeys("*7", "*8")),
            limits or CallLimits(),
            store=self.store,  # type: ignore[arg-type]
            gate=self.gate,  # type: ignore[arg-type]
            media=self.media,
            router=Router(trunks, [Peer("pbx", network, "acme", trust_state_header=trusted)] if peers else []),
            authenticator=Authenticator(DigestServer(REALM, secrets.token_bytes(32))),
            metrics=self.metrics,
            now=lambda: datetime.now(UTC),
        )
        agent = UserAgent(
            self.table,
            self.sip.endpoints,
            token=lambda: secrets.token_hex(8),
            choose=lambda low, high: low + secrets.randbelow(high - low + 1),
            software="Twoparty",
            t1=0.1,
        )
        self.table.agent, self.table.flush = agent, self.sip.flush
        await self.sip.start(agent)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.sip.endpoints[0].port}"

    def uri(self, user: str = "+16035550100") -> str:
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{user}@{self.address}{suffix}"

    @property
    def registrar(self) -> str:
        return self.uri("").replace("@", "")

    @property
    def session(self) -> FakeMediaSession:
        """The media session of the latest call."""
        return self.media.sessions[-1]

    @property
    def ending(self) -> CallEnded:
        """The record of the call that ended last."""
        return [r for r in self.store.journal.records if isinstance(r, CallEnded)][-1]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for a condition that network events bring about."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    async def idle(self) -> None:
        """Wait until no call is left."""
        await self.until(lambda: not self.table.calls)

    async def close(self) -> None:
        await self.table.drain(0)
        await self.sip.close()
        for phone in self.phones:
            await phone.close()
            assert phone.errors == []
        assert self.metrics.exceptions == []


@pytest.fixture(params=["127.0.0.1 udp"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    host, transport = request.param.split()
    made = Lab(host, transport)
    yield made
    await made.close()


async def taken(phone: Phone) -> PhoneCall:
    """The next call that ``phone`` gets."""
    async with asyncio.timeout(10):
        return await phone.incoming.get()


async def ended(call: PhoneCall) -> None:
    """Wait for the end of a call."""
    async with asyncio.timeout(10):
        await call.ended.wait()
