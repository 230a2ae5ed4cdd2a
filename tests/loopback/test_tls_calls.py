"""Whole calls over TLS: registered phones, a carrier with a certificate of its own, SIPS, files that are changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.settings import Trunk
from gateway.transport.tls import FarEnd, KeyPair, TlsContexts
from scripts.audit_recordings import audit
from scripts.phone import CallFailed, Phone, PhoneCall
from tests.support.certificates import Authority
from tests.support.rig import Rig, settings_for, start_gateway
from tests.support.sipp import free_port

HOST = "127.0.0.1"
NUMBER = "+12125550123"


@dataclass
class Secured:
    """A gateway with a TLS listener, a carrier that is called over TLS, agents as they are opened."""

    rig: Rig
    ca: Authority
    own: KeyPair
    carrier_contexts: TlsContexts

    @property
    def port(self) -> int:
        return next(e.port for e in self.rig.gateway.transport.endpoints if e.transport == "tls")

    def uri(self, number: str, scheme: str = "sip") -> str:
        return f"{scheme}:{number}@{HOST}:{self.port}" + (";transport=tls" if scheme == "sip" else "")

    def udp_uri(self, number: str) -> str:
        port = next(e.port for e in self.rig.gateway.transport.endpoints if e.transport == "udp")
        return f"sip:{number}@{HOST}:{port}"

    async def phone(self, name: str = "alice", certificate: KeyPair | None = None) -> Phone:
        """A phone that believes the CA; without a certificate of its own it shows one that nobody knows by name."""
        own = certificate or self.ca.issue(f"phone-{name}")
        phone = await Phone.open(transport="tls", username=name, password="secret", tone_hz=440.0,
                                 contexts=self.ca.contexts(own))  # fmt: skip
        self.rig.phones.append(phone)
        return phone

    async def call(self, phone: Phone, uri: str) -> tuple[PhoneCall, PhoneCall]:
        call = await phone.call(uri)
        async with asyncio.timeout(10):
            return call, await self.rig.carrier.incoming.get()

    async def close(self) -> None:
        await self.rig.close()


async def start(directory: Path, *, names: tuple[str, ...] = (), trusted: bool = False, **tls: Any) -> Secured:
    ca = Authority(directory)
    own = ca.issue("gateway", dns=["gw.example"], hosts=[HOST])
    contexts = ca.contexts(ca.issue("carrier", dns=["sip.carrier.example"]), clients="required")
    carrier = await Phone.open(transport="tls", tone_hz=1000.0, username="carrier", contexts=contexts)
    agent = await Phone.open(tone_hz=440.0, username="alice", password="secret")
    trunk = Trunk(
        name="carrier", host=HOST, port=carrier.port, transport="tls", server_name="sip.carrier.example",
        certificate_names=("sip.carrier.example",) if tls else (),
    )  # fmt: skip
    section = {"certificate": own.certificate, "key": own.key, "ca": ca.path, **tls}
    settings = settings_for(
        directory, [trunk], trusted=trusted, tls=section,
        sip={"listen": (f"tls:{HOST}:0", f"udp:{HOST}:0")},
    )  # fmt: skip
    if names:
        peers = tuple(peer.model_copy(update={"certificate_names": names}) for peer in settings.peers)
        settings = settings.model_copy(update={"peers": peers})
    gateway = await start_gateway(settings, {"inbound_enabled": True})
    return Secured(Rig(directory, carrier, agent, gateway), ca, own, contexts)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    made = await start(tmp_path, client_certificates="asked")
    yield made
    await made.close()


async def talk(call: PhoneCall, far: PhoneCall, packets: int = 30) -> None:
    await asyncio.gather(*(end.rtp.heard(len(end.rtp.received) + packets) for end in (call, far)))


async def test_a_call_is_tls_on_both_legs_authenticated_and_recorded(secured: Secured) -> None:
    phone = await secured.phone()
    call, far = await secured.call(phone, secured.uri(NUMBER))
    await talk(call, far, 60)
    held = await call.hold()
    assert held.status == 200
    await secured.rig.hang_up(call, far)
    recorded = await secured.rig.recorded(NUMBER)
    assert recorded.manifest["decision"]["mode"] == "both"
    assert recorded.manifest["call"]["source"].startswith("tls:")
    assert audit(secured.rig.directory / "recordings").findings == []
    invite = secured.rig.carrier.invites[0]
    assert invite.via.transport == "TLS" and ";transport=tls" in (invite.get("contact") or "")
    # one connection for the agent, one to the carrier, whatever was sent on them
    assert secured.rig.gateway.transport.connections.total == 2


async def test_one_leg_may_be_plain_if_nobody_asked_for_sips(secured: Secured) -> None:
    call = await secured.rig.agent.call(secured.udp_uri(NUMBER))
    async with asyncio.timeout(10):
        far = await secured.rig.carrier.incoming.get()
    await secured.rig.hang_up(call, far)
    assert secured.rig.carrier.invites[0].via.transport == "TLS"


async def test_a_registered_phone_is_called_on_its_own_connection(secured: Secured) -> None:
    phone = await secured.phone()
    assert (await phone.register(secured.uri("").replace("@", ""))).status == 200
    call = await secured.rig.carrier.call(secured.uri("+12125550199"))
    async with asyncio.timeout(10):
        rung = await phone.incoming.get()
    assert phone.invites[0].via.transport == "TLS"
    call.hang_up()
    async with asyncio.timeout(10):
        await rung.ended.wait()


async def test_sips_goes_over_tls_all_the_way(secured: Secured) -> None:
    phone = await secured.phone()
    call, far = await secured.call(phone, secured.uri(NUMBER, "sips"))
    invite = secured.rig.carrier.invites[0]
    assert invite.uri.startswith("sips:") and (invite.get("contact") or "").startswith("<sips:")
    assert (call.session.dialog.remote_target if call.session and call.session.dialog else "").startswith("sips:")
    await talk(call, far)
    await secured.rig.hang_up(call, far)


async def test_sips_is_refused_where_a_leg_would_be_plain(tmp_path: Path) -> None:
    made = await start(tmp_path)
    try:
        plain = await Phone.open(username="carrier")
        made.rig.phones.append(plain)
        router = made.rig.gateway.calls.router
        router.trunks = tuple(type(t)(t.name, HOST, plain.port, "udp") for t in router.trunks)
        phone = await made.phone()
        with pytest.raises(CallFailed) as failure:
            await phone.call(made.uri(NUMBER, "sips"))
        assert failure.value.status == 480
        assert plain.invites == []
    finally:
        await made.close()


async def test_a_carrier_with_another_name_gets_no_call(tmp_path: Path) -> None:
    made = await start(tmp_path, client_certificates="asked")
    try:
        replace(made.rig.directory, "carrier", made.ca.issue("other", dns=["sip.other.example"]))
        made.carrier_contexts.reload()
        phone = await made.phone()
        with pytest.raises(CallFailed) as failure:
            await phone.call(made.uri(NUMBER))
        assert failure.value.status in (480, 503)
        assert made.rig.carrier.invites == []
    finally:
        await made.close()


def replace(directory: Path, name: str, by: KeyPair) -> None:
    shutil.copy(by.certificate, directory / f"{name}.crt")
    shutil.copy(by.key, directory / f"{name}.key")


async def test_certificates_are_changed_during_a_call(secured: Secured) -> None:
    """What SIGHUP does: the call goes on on its connections, the next one sees the new certificate."""
    phone = await secured.phone()
    call, far = await secured.call(phone, secured.uri(NUMBER))
    replace(secured.rig.directory, "gateway", secured.ca.issue("renewed", dns=["other.example"]))
    secured.rig.gateway.reload()
    await talk(call, far)
    held = await call.hold()
    assert held.status == 200
    with pytest.raises(CallFailed):
        await (await secured.phone("bob")).call(secured.uri(NUMBER))  # believes no certificate without 127.0.0.1
    replace(secured.rig.directory, "gateway", secured.ca.issue("again", hosts=[HOST]))
    secured.rig.gateway.reload()
    second, other = await secured.call(await secured.phone("alice"), secured.uri("+12125550124"))
    for one, two in ((second, other), (call, far)):
        await secured.rig.hang_up(one, two)
    assert (await secured.rig.recorded(NUMBER)).manifest["outcome"] == "complete"


CONFIG = """
[sip]
listen = ["tls:127.0.0.1:{port}"]
[tls]
certificate = "{certificate}"
key = "{key}"
[recording]
root = "{directory}/recordings"
[web]
listen = ""
[store]
url = "sqlite:///{directory}/gateway.db"
"""


async def test_sighup_reloads_a_serving_gateway(tmp_path: Path) -> None:
    """Under uvloop, in a process of its own: SIGHUP changes the certificate that is shown, and ends nothing."""
    ca = Authority(tmp_path)
    own, port = ca.issue("gateway", dns=["old.example"]), free_port()
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(port=port, certificate=own.certificate, key=own.key, directory=tmp_path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), env={**os.environ, "TWOPARTY_CONFIG": ""}
    )
    context = ssl.create_default_context(cafile=str(ca.path))

    async def shown(name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await asyncio.open_connection(HOST, port, ssl=context, server_hostname=name)
                except (ConnectionError, ssl.SSLCertVerificationError):
                    await asyncio.sleep(0.02)

    try:
        reader, writer = await shown("old.example")
        replace(tmp_path, "gateway", ca.issue("renewed", dns=["new.example"]))
        process.send_signal(signal.SIGHUP)
        (await shown("new.example"))[1].close()
        writer.write(b"\r\n\r\n")  # the old connection is alive: a ping has its pong
        async with asyncio.timeout(10):
            assert await reader.readexactly(2) == b"\r\n"
        writer.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_peer_is_believed_by_its_certificate_alone(tmp_path: Path) -> None:
    """``certificate_names``: neither its address nor another certificate of the same CA will do."""
    made = await start(tmp_path, names=("PBX.acme.example",), trusted=True, client_certificates="asked")
    try:
        good = made.ca.issue("pbx", dns=["pbx.acme.example"])
        pbx = await made.phone("alice", good)
        pbx.password = ""
        call, far = await made.call(pbx, made.uri(NUMBER))
        await made.rig.hang_up(call, far)
        other = await made.phone("alice", made.ca.issue("another", dns=["printer.acme.example"]))
        made.rig.agent.password = other.password = ""
        for phone, uri in ((other, made.uri(NUMBER)), (made.rig.agent, made.udp_uri(NUMBER))):
            with pytest.raises(CallFailed) as failure:
                await phone.call(uri)
            assert failure.value.status == 407
    finally:
        await made.close()


async def test_the_carrier_is_asked_for_its_certificate_and_shown_ours(secured: Secured) -> None:
    """The carrier requires a client certificate: the call came about, so it had ours. FarEnd is made of the trunk."""
    contexts = secured.rig.gateway.transport._contexts
    assert contexts is not None
    assert contexts.settings.far_ends == (FarEnd(HOST, secured.rig.carrier.port, "sip.carrier.example"),)
