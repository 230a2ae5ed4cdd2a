"""Attackers at a whole gateway's real sockets, and good callers beside them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.settings import Trunk
from gateway.sip.digest import authorization_for
from gateway.sip.message import Response, parse
from scripts.phone import CallFailed, Phone
from tests.support.rig import Rig, settings_for, start_gateway
from tests.support.sip_corpus import SDP, sip

ATTACKER, GOOD, FAR = "127.0.0.66", "127.0.0.10", "127.0.0.1"
NUMBER = "+12125550123"


@dataclass
class Front:
    """A gateway to which everybody but the carrier is a stranger."""

    rig: Rig

    def port(self, transport: str = "udp") -> int:
        return next(e.port for e in self.rig.gateway.transport.endpoints if (e.transport, e.host) == (transport, FAR))

    def uri(self, user: str = NUMBER, transport: str = "udp") -> str:
        suffix = f";transport={transport}" if transport != "udp" else ""
        return f"sip:{user}@{FAR}:{self.port(transport)}{suffix}"

    async def phone(self, username: str = "alice", password: str = "secret", host: str = GOOD) -> Phone:
        phone = await Phone.open(host, username=username, password=password)
        self.rig.phones.append(phone)
        return phone

    def metric(self, name: str, **labels: str) -> float:
        return self.rig.gateway.metrics.registry.get_sample_value(f"twoparty_{name}", labels) or 0.0

    def request(self, method: str, number: int, *extra: str, user: str = "alice", agent: str = "Phone/1") -> bytes:
        return sip(
            f"{method} {self.uri() if method == 'INVITE' else f'sip:{FAR}'} SIP/2.0",
            f"Via: SIP/2.0/UDP {ATTACKER}:7000;branch=z9hG4bK{number};rport", "Max-Forwards: 70",
            f"From: <sip:{user}@{FAR}>;tag=f{number}", f"To: <sip:{user}@{FAR}>", f"Call-ID: attack-{number}",
            f"CSeq: {number} {method}", f"Contact: <sip:{user}@{ATTACKER}:7000>", "Expires: 300",
            f"User-Agent: {agent}", "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS", *extra,
            body=SDP if method == "INVITE" else b"",
        )  # fmt: skip


async def start(directory: Path, **sections: dict[str, Any]) -> Front:
    carrier = await Phone.open(tone_hz=1000.0, username="carrier")
    agent = await Phone.open(tone_hz=440.0, username="alice")
    trunk = Trunk(name="carrier", host=FAR, port=carrier.port, **sections.pop("trunk", {}))
    sections["limits"] = {"trusted": [], **sections.get("limits", {})}
    gateway = await start_gateway(settings_for(directory, [trunk], trusted=False, **sections))
    return Front(Rig(directory, carrier, agent, gateway))


@pytest.fixture
async def front(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    made = await start(tmp_path, **getattr(request, "param", {}))
    yield made
    assert made.metric("exceptions_total") == 0
    await made.rig.close()


@contextlib.contextmanager
def udp(host: str = ATTACKER) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.setblocking(False)
        yield sock


async def answers(front: Front, sock: socket.socket, count: int) -> list[Response]:
    """What came back, once everything that was sent has been read: a request that is answered for sure is the last."""
    loop, found = asyncio.get_running_loop(), []
    async with asyncio.timeout(10):
        while len(found) < count:
            found.append(parse(await loop.sock_recv(sock, 65535)))
    return [message for message in found if isinstance(message, Response)]


async def drained(front: Front, reason: str, count: int) -> None:
    """Until so many messages have been dropped for a reason."""
    await front.rig.until(lambda: front.metric("dropped_messages_total", reason=reason) >= count)


async def call_works(front: Front, phone: Phone) -> None:
    call = await phone.call(front.uri())
    async with asyncio.timeout(10):
        far = await front.rig.carrier.incoming.get()
    await front.rig.hang_up(call, far)


async def test_scanners_are_not_answered(front: Front) -> None:
    with udp() as sock:
        for number, agent in enumerate(["friendly-scanner", "sipcli/v1.8", "VaxSIPUserAgent/3.1"] * 5):
            method = ("OPTIONS", "REGISTER", "INVITE")[number % 3]
            sock.sendto(front.request(method, number, agent=agent), (FAR, front.port()))
        for number in range(100, 110):
            sock.sendto(front.request("OPTIONS", number), (FAR, front.port()))
        await drained(front, "scanner", 15)
        await drained(front, "stranger", 10)
        with pytest.raises(BlockingIOError):
            sock.recv(65535)
    await call_works(front, await front.phone())


async def test_a_guesser_is_banned_and_his_neighbours_are_not(front: Front) -> None:
    good = await front.phone()
    assert (await good.register(f"sip:{FAR}:{front.port()}")).status == 200
    with udp() as sock:
        for number in range(8):
            sock.sendto(front.request("REGISTER", 2 * number), (FAR, front.port()))
            (challenge,) = await answers(front, sock, 1)
            guess = authorization_for(challenge.all("www-authenticate"), "REGISTER", f"sip:{FAR}", "alice",
                                      f"guess{number}", cnonce="c")  # fmt: skip
            sock.sendto(front.request("REGISTER", 2 * number + 1, f"Authorization: {guess}"), (FAR, front.port()))
            assert [r.status for r in await answers(front, sock, 1)] == [401]
        assert front.metric("bans_total") == 1 and front.metric("banned") == 1
        assert front.metric("failed_authentications_total") == 8
        sock.sendto(front.request("REGISTER", 50), (FAR, front.port()))
        await drained(front, "banned", 1)
    await call_works(front, good)
    await call_works(front, await front.phone(host="127.0.0.11"))


@pytest.mark.parametrize(
    "front", [{"limits": {"ban_failures": 2, "stranger_challenges_per_second": 1000.0}}], indirect=True
)
async def test_false_source_addresses_ban_nobody(front: Front) -> None:
    """The attacker sends in the good phone's name: loopback lets him bind its address, but not read its answers."""
    with udp(GOOD) as spoofed:
        for number in range(60):
            value = (
                f'Digest username="alice", realm="twoparty", nonce="lfls.00000.{"A" * 12}", '
                f'uri="sip:{FAR}", response="{"0" * 32}", qop=auth, nc=00000001, cnonce="x"'
            )
            spoofed.sendto(front.request("REGISTER", number, f"Authorization: {value}"), (FAR, front.port()))
        await answers(front, spoofed, 60)
    assert front.metric("failed_authentications_total") == 0 and front.metric("banned") == 0
    await call_works(front, await front.phone())


async def test_nothing_larger_than_the_request_comes_back(front: Front) -> None:
    with udp() as sock:
        for number, method in enumerate(["REGISTER", "INVITE"] * 10):
            data = front.request(method, number)
            sock.sendto(data, (FAR, front.port()))
            (answer,) = await answers(front, sock, 1)
            assert answer.status in (401, 407)
            assert len(bytes(answer)) <= len(data)
        # an INVITE that nobody ACKs: its challenge came once, and nothing waits to repeat it
        assert front.rig.gateway.calls.agent.next_deadline() is None
        with pytest.raises(BlockingIOError):
            sock.recv(65535)


async def test_real_phones_find_room_for_their_challenge(front: Front) -> None:
    """The gateway's own phone has few headers; it registers and calls all the same."""
    phone = await front.phone()
    assert (await phone.register(f"sip:{FAR}:{front.port()}")).status == 200
    await call_works(front, phone)
    assert front.metric("dropped_messages_total", reason="amplification") == 0


async def test_nobody_registers_for_somebody_else(front: Front) -> None:
    """The password of one agent, the address of record, or the From, of another."""
    gateway = front.rig.gateway
    with udp() as sock:
        for number, (name, value) in enumerate([("To", "bob"), ("From", "bob")]):

            def ask(offset: int, *extra: str, at: int = number, header: str = name, user: str = value) -> bytes:
                data = front.request("REGISTER", 10 * at + offset, *extra)
                return data.replace(f"{header}: <sip:alice@".encode(), f"{header}: <sip:{user}@".encode())

            sock.sendto(ask(0), (FAR, front.port()))
            (challenge,) = await answers(front, sock, 1)
            proof = authorization_for(challenge.all("www-authenticate"), "REGISTER", f"sip:{FAR}", "alice", "secret",
                                      cnonce="c")  # fmt: skip
            sock.sendto(ask(1, f"Authorization: {proof}"), (FAR, front.port()))
            assert [r.status for r in await answers(front, sock, 1)] == [403]
    assert gateway.calls.registrar.contacts("bob", 0) == gateway.calls.registrar.contacts("alice", 0) == []


@pytest.mark.parametrize(("said", "passes"), [("alice", True), ("+12125550199", True), ("anonymous", True),
                                              ("bob", False), ("+16035550100", False)])  # fmt: skip
async def test_from_says_nobody_elses_name_or_number(front: Front, said: str, passes: bool) -> None:
    phone = await front.phone()
    phone.username = said
    call = phone.dial(front.uri())
    assert call.session is not None
    call.session.credentials = ("alice", "secret")
    async with asyncio.timeout(10):
        if passes:
            await call.answered
            far = await front.rig.carrier.incoming.get()
            await front.rig.hang_up(call, far)
        else:
            with pytest.raises(CallFailed) as failure:
                await call.answered
            assert failure.value.status == 403
            assert front.rig.carrier.invites == []


@pytest.mark.parametrize("front", [{"limits": {"connections_per_source": 5}}], indirect=True)
async def test_a_source_has_so_many_connections(front: Front) -> None:
    held = [await asyncio.open_connection(FAR, front.port("tcp"), local_addr=(ATTACKER, 0)) for _ in range(5)]
    await front.rig.until(lambda: front.rig.gateway.transport.connections.total == 5)
    reader, writer = await asyncio.open_connection(FAR, front.port("tcp"), local_addr=(ATTACKER, 0))
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert front.metric("connections_closed_total", reason="too many") == 1
    other = await Phone.open(GOOD, "tcp", username="alice", password="secret")
    front.rig.phones.append(other)
    call = await other.call(front.uri(transport="tcp"))
    call.hang_up()
    for _, one in [*held, (reader, writer)]:
        one.close()
    await front.rig.until(lambda: front.rig.gateway.transport.connections.total <= 1)


LOW = {"limits": {"message_seconds": 0.2, "stranger_seconds": 0.4}}


@pytest.mark.parametrize("front", [LOW], indirect=True)
async def test_slow_and_silent_connections_are_cut(front: Front) -> None:
    message = front.request("OPTIONS", 1)
    slow, silent = [await asyncio.open_connection(FAR, front.port("tcp"), local_addr=(ATTACKER, 0)) for _ in range(2)]
    slow[1].write(message[:40])
    async with asyncio.timeout(10):
        for reader, writer in (slow, silent):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
    assert front.metric("connections_closed_total", reason="slow to send") == 1
    assert front.metric("connections_closed_total", reason="unproven") == 1
    assert front.metric("connections") == 0


@pytest.mark.parametrize("front", [{"limits": {"write_seconds": 0.2}}], indirect=True)
async def test_who_does_not_read_is_cut(front: Front) -> None:
    """Somebody who has proved himself asks and asks, and reads no answer."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        sock.bind((GOOD, 0))
        await loop.sock_connect(sock, (FAR, front.port("tcp")))
        flow = next(e for e in front.rig.gateway.transport._streams.values() if e.host == FAR).flow_to(
            *sock.getsockname()
        )
        front.rig.gateway.guard.proved(flow, loop.time(), 60)
        number = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while not front.metric("connections_closed_total", reason="slow to read"):
                    number += 1
                    await loop.sock_sendall(sock, front.request("OPTIONS", number, "X: " + "x" * 2000))
    await front.rig.until(lambda: front.metric("connections_closed_total", reason="slow to read") == 1)
    await call_works(front, await front.phone())


@pytest.mark.parametrize("front", [{"trunk": {"max_calls": 1}}, {"limits": {"agent_calls": 1}},
                                   {"sip": {"max_calls": 1}}], indirect=True)  # fmt: skip
async def test_limits_are_told_with_retry_after_and_emergencies_pass(front: Front) -> None:
    phone = await front.phone()
    first = await phone.call(front.uri())
    far = await asyncio.wait_for(front.rig.carrier.incoming.get(), 10)
    with pytest.raises(CallFailed) as failure:
        await phone.call(front.uri("+12125550124"))
    assert failure.value.status == 503
    emergency = await phone.call(front.uri("911"))
    other = await asyncio.wait_for(front.rig.carrier.incoming.get(), 10)
    for one, two in ((first, far), (emergency, other)):
        await front.rig.hang_up(one, two)
    await front.rig.until(lambda: not front.rig.gateway.calls.calls)
    assert len(front.rig.gateway.calls._lines) == 0
    await call_works(front, phone)


@pytest.mark.parametrize("front", [{"limits": {"body_bytes": 1000, "message_headers": 60}}], indirect=True)
async def test_large_messages_are_refused(front: Front) -> None:
    """Of somebody who is listened to: 413 for the body; more headers than that are no message."""
    phone = await front.phone()
    assert (await phone.register(f"sip:{FAR}:{front.port()}")).status == 200
    sock = phone._transport._udp[phone.host, phone.port]._socket
    heard: list[Response] = []
    phone.agent.layer.receive_response = lambda response, now: heard.append(response)  # type: ignore
    padding = b"a=x:" + b"x" * 1000 + b"\r\n"
    data = front.request("INVITE", 1).replace(SDP, SDP + padding)
    data = data.replace(b"Content-Length: %d" % len(SDP), b"Content-Length: %d" % (len(SDP) + len(padding)))
    sock.sendto(front.request("OPTIONS", 2, *(f"X-{n}: y" for n in range(60))), (FAR, front.port()))
    sock.sendto(data, (FAR, front.port()))
    await front.rig.until(lambda: bool(heard))
    assert [response.status for response in heard] == [413]
    assert front.metric("malformed_messages_total") == 2


async def test_a_flood_of_strangers_does_not_keep_a_good_call_from_coming_about(front: Front) -> None:
    phone = await front.phone()
    done = asyncio.Event()

    async def flood() -> None:
        number = 0
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(udp(f"127.0.1.{n}")) for n in range(1, 40)]
            while not done.is_set():
                for sock in socks:
                    number += 1
                    with contextlib.suppress(BlockingIOError):
                        sock.sendto(front.request(("INVITE", "REGISTER", "OPTIONS")[number % 3], number),
                                    (FAR, front.port()))  # fmt: skip
                await asyncio.sleep(0.002)

    flooding = asyncio.create_task(flood())
    try:
        for _ in range(5):
            await call_works(front, phone)
    finally:
        done.set()
        await flooding
    assert len(front.rig.gateway.calls.calls) == 0
