"""TLS at the sockets: who is believed and who is not, what is shown to whom, and files that change underneath."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.guard.pace import StreamLimits
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Response
from gateway.sip.user_agent import UserAgent
from gateway.transport.endpoint import SipTransport
from gateway.transport.stream import StreamPolicy
from gateway.transport.tls import FarEnd, KeyPair, TlsContexts, TlsError, TlsSettings, certificate_names
from tests.support.certificates import Authority
from tests.support.sip_corpus import sip

HOST = "127.0.0.1"


def options(number: int = 1) -> bytes:
    return sip(
        f"OPTIONS sip:gw@{HOST} SIP/2.0", f"Via: SIP/2.0/TLS {HOST}:5061;branch=z9hG4bK{number}", "Max-Forwards: 70",
        f"From: <sip:a@{HOST}>;tag=1", f"To: <sip:gw@{HOST}>", f"Call-ID: {number}", f"CSeq: {number} OPTIONS",
    )  # fmt: skip


@dataclass
class Node:
    """A user agent on TLS that keeps what it hears; it answers OPTIONS, as any does."""

    contexts: TlsContexts
    limits: StreamLimits = field(default_factory=StreamLimits)
    heard: list[Response] = field(default_factory=list)
    failures: list[Flow] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        policy = StreamPolicy(limits=self.limits, closed=self._closed)
        self.transport = SipTransport([("tls", HOST, 0)], contexts=self.contexts, streams=policy)
        numbers = iter(range(10**6))
        self.agent = UserAgent(
            self, self.transport.endpoints, token=lambda: f"{next(numbers):08x}",  # type: ignore[arg-type]
            choose=lambda low, high: low, connected=self.transport.connected,
        )  # fmt: skip
        layer = self.agent.layer
        received, failed = layer.receive_response, self.agent.transport_failed
        layer.receive_response = lambda r, now: (self._note(self.heard, r), received(r, now))  # type: ignore
        self.agent.transport_failed = lambda f, now: (self._note(self.failures, f), failed(f, now))  # type: ignore

    def _note(self, where: list[object], what: object) -> None:
        where.append(what)
        self.changed.set()

    def _closed(self, reason: str) -> None:
        self._note(self.closed, reason)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        return self.transport.endpoints[0].port

    def on_malformed(self, flow: Flow, error: SipError) -> None: ...

    def on_exception(self, error: Exception) -> None:
        raise error

    def flow_to(self, other: Node) -> Flow:
        return Flow("tls", HOST, self.port, HOST, other.port)

    def ask(self, other: Node, number: int = 1) -> None:
        self.agent.transmit(self.flow_to(other), options(number))
        self.transport.flush()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    nodes: list[Node] = []

    async def make(contexts: TlsContexts, **limits: float) -> Node:
        node = Node(contexts, StreamLimits(**limits))  # type: ignore[arg-type]
        nodes.append(node)
        await node.transport.start(node.agent)
        return node

    yield make
    for node in nodes:
        await node.transport.close()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def asked(node: Node, other: Node, number: int = 1) -> None:
    before = len(node.heard)
    node.ask(other, number)
    await node.until(lambda: len(node.heard) > before)
    assert node.heard[-1].status == 200


async def test_one_connection_carries_everything_both_ways(made, ca: Authority) -> None:
    one, other = [await made(ca.contexts(ca.issue(name, hosts=[HOST]))) for name in ("one", "other")]
    for number in range(1, 30):
        await asked(one, other, number)
    assert one.transport.connections.total == other.transport.connections.total == 1
    assert one.heard[0].via.transport == "TLS"


@pytest.mark.parametrize("wrong", ["name", "authority", "expired", "no name at all"])
async def test_a_far_end_that_does_not_prove_itself_gets_nothing(made, ca: Authority, tmp_path: Path, wrong) -> None:
    theirs = {
        "name": lambda: ca.issue("theirs", dns=["other.example"]),
        "authority": lambda: Authority(tmp_path, "stranger").issue("theirs", dns=["sip.carrier.example"]),
        "expired": lambda: ca.issue("theirs", dns=["sip.carrier.example"], days=-1),
        "no name at all": lambda: ca.issue("sip.carrier.example"),
    }[wrong]()
    far = await made(TlsContexts(TlsSettings(theirs, ca=ca.path)))
    near = await made(ca.contexts(ca.issue("near"), FarEnd(HOST, far.port, "sip.carrier.example")))
    near.ask(far)
    await near.until(lambda: bool(near.failures))
    assert near.failures == [near.flow_to(far)] and near.closed == ["certificate"]
    assert far.heard == [] and near.transport.connections.total == 0


async def test_the_name_that_was_asked_for_is_enough(made, ca: Authority) -> None:
    far = await made(ca.contexts(ca.issue("far", dns=["sip.carrier.example"])))
    near = await made(ca.contexts(ca.issue("near"), FarEnd(HOST, far.port, "sip.carrier.example")))
    await asked(near, far)


async def test_sni_chooses_the_certificate(made, ca: Authority) -> None:
    names = (("sip.acme.example", ca.issue("acme", dns=["sip.acme.example"])),
             ("*.wild.example", ca.issue("wild", dns=["*.wild.example"])))  # fmt: skip
    far = await made(ca.contexts(ca.issue("plain", dns=["gw.example"]), names=names))
    context = ssl.create_default_context(cafile=str(ca.path))
    for name in ("sip.acme.example", "SIP.ACME.example", "any.wild.example", "gw.example"):
        _, writer = await asyncio.open_connection(HOST, far.port, ssl=context, server_hostname=name)
        writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(HOST, far.port, ssl=context, server_hostname="unknown.example")


async def test_a_version_below_the_least_is_refused(made, ca: Authority) -> None:
    far = await made(ca.contexts(ca.issue("far", hosts=[HOST]), minimum_version="1.3"))
    context = ssl.create_default_context(cafile=str(ca.path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(HOST, far.port, ssl=context)
    _, writer = await asyncio.open_connection(HOST, far.port, ssl=ssl.create_default_context(cafile=str(ca.path)))
    writer.close()


async def test_client_certificates_are_asked_for_verified_and_read(made, ca: Authority, tmp_path: Path) -> None:
    far = await made(ca.contexts(ca.issue("far", hosts=[HOST]), clients="required"))
    good = await made(ca.contexts(ca.issue("good", dns=["Dialer.acme.example"], hosts=[HOST])))
    await asked(good, far)
    flows = [far.transport._streams[HOST, far.port].flow_to(*key) for key in
             far.transport._streams[HOST, far.port]._connections]  # fmt: skip
    assert [far.transport.names_of(flow) for flow in flows] == [{"dialer.acme.example", HOST}]
    stranger = Authority(tmp_path, "stranger").issue("theirs", dns=["dialer.acme.example"])
    bad = await made(TlsContexts(TlsSettings(stranger, ca=ca.path)))
    bad.ask(far)
    await far.until(lambda: "handshake" in far.closed)
    assert far.transport.connections.total == 1 and bad.heard == []
    context = ssl.create_default_context(cafile=str(ca.path))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(HOST, far.port, ssl=context)


def test_the_names_of_a_certificate() -> None:
    """RFC 5922 7.1: sip URIs stand before DNS names; a common name counts for nothing."""
    alternatives = (("DNS", "A.example"), ("URI", "sip:B.example"), ("URI", "https://c.example"), ("IP Address", HOST))
    subject = ((("commonName", "d.example"),),)
    assert certificate_names({"subject": subject, "subjectAltName": alternatives}) == {"b.example", HOST}
    assert certificate_names({"subject": subject, "subjectAltName": (("DNS", "A.example"),)}) == {"a.example"}
    assert certificate_names({"subject": subject}) == certificate_names(None) == certificate_names({}) == frozenset()


def replace(pair: KeyPair, by: KeyPair) -> None:
    shutil.copy(by.certificate, pair.certificate)
    shutil.copy(by.key, pair.key)


async def test_a_reload_changes_what_is_shown_and_drops_nothing(made, ca: Authority) -> None:
    pair = ca.issue("far", dns=["old.example"])
    far = await made(ca.contexts(pair))
    near = await made(ca.contexts(ca.issue("near"), FarEnd(HOST, far.port, "old.example")))
    await asked(near, far, 1)
    replace(pair, ca.issue("new", dns=["new.example"]))
    far.transport.reload()
    context = ssl.create_default_context(cafile=str(ca.path))
    _, writer = await asyncio.open_connection(HOST, far.port, ssl=context, server_hostname="new.example")
    writer.close()
    await asked(near, far, 2)  # on the connection that it has
    assert near.failures == []


@pytest.mark.parametrize("broken", ["missing", "text", "other key", "pass phrase"])
async def test_a_reload_that_fails_leaves_the_old_in_force(made, ca: Authority, broken: str) -> None:
    pair = ca.issue("far", dns=["old.example"])
    contexts = ca.contexts(pair)
    far = await made(contexts)
    if broken == "missing":
        pair.key.unlink()
    elif broken == "text":
        pair.certificate.write_text("no certificate")
    elif broken == "other key":
        shutil.copy(ca.issue("another").key, pair.key)
    else:
        pair.key.write_text(ENCRYPTED)
    with pytest.raises(TlsError, match=r"far\.crt.*far\.key"):
        far.transport.reload()
    near = await made(ca.contexts(ca.issue("near"), FarEnd(HOST, far.port, "old.example")))
    await asked(near, far)


async def test_what_is_no_tls_is_cut_and_the_next_one_is_served(made, ca: Authority) -> None:
    far = await made(ca.contexts(ca.issue("far", hosts=[HOST])))
    for rubbish in (options(), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 300):
        reader, writer = await asyncio.open_connection(HOST, far.port)
        writer.write(rubbish)
        async with asyncio.timeout(10):
            answer = await reader.read(4096)
        assert b"SIP/2.0" not in answer
        writer.close()
    await far.until(lambda: far.closed.count("handshake") == 3)
    near = await made(ca.contexts(ca.issue("near")))
    await asked(near, far)


async def test_a_handshake_must_come_to_its_end(made, ca: Authority) -> None:
    """Nothing at all, and the beginning of a hello: both hold a place, and not for long."""
    far = await made(ca.contexts(ca.issue("far", hosts=[HOST])), handshake=0.2, connections=2)
    held = [await asyncio.open_connection(HOST, far.port) for _ in range(2)]
    held[1][1].write(b"\x16\x03\x01\x02\x00\x01")
    await far.until(lambda: far.closed.count("handshake") == 2)
    near = await made(ca.contexts(ca.issue("near")))
    await asked(near, far)
    for _, writer in held:
        writer.close()


async def test_a_listener_needs_its_files(tmp_path: Path, ca: Authority) -> None:
    with pytest.raises(TlsError, match="nowhere"):
        TlsContexts(TlsSettings(KeyPair(tmp_path / "nowhere.crt", tmp_path / "nowhere.key")))
    with pytest.raises(TlsError, match=r"no-ca\.pem"):
        TlsContexts(TlsSettings(ca.issue("x"), ca=tmp_path / "no-ca.pem"))
    with pytest.raises(ValueError, match="contexts"):
        SipTransport([("tls", HOST, 0)])


ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhLqv1mpkrmBwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEJmzVCGWOZzyIoN6DUbCDmcEgZCc
-----END ENCRYPTED PRIVATE KEY-----
"""
