"""A small phone on the gateway's own SIP core, for the demo and the loopback tests: it calls, answers, plays a tone.

Not a softphone for people (that is ``scripts/softphone.py``, on PJSIP): everything it does can be scripted and awaited,
and it keeps what it sent and received packet by packet.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gateway.sip.digest import authorization_for
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.invite import ClientExchange, Headers, InviteSession, ServerExchange
from gateway.sip.message import Request, Response
from gateway.sip.sdp import Codec, Direction, Media, Origin, SessionDescription
from gateway.sip.transaction import ClientTransaction, ServerTransaction
from gateway.sip.uri import Uri, bracketed
from gateway.sip.user_agent import UserAgent
from gateway.transport.endpoint import SipTransport
from gateway.transport.tls import TlsContexts
from media.codecs import encode_alaw, encode_ulaw

PTIME = 0.02
SAMPLES = 160
CODECS = {0: Codec("PCMU", 8000), 8: Codec("PCMA", 8000), 3: Codec("GSM", 8000)}


class CallFailed(Exception):
    """A call that was not answered; ``status`` is the final response's."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"call failed: {status}")


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet as it was on the wire."""

    data: bytes
    at: float
    """Seconds of the event loop's clock."""


@dataclass
class RtpStream:
    """One RTP socket: plays a tone in real time, keeps all packets sent and received."""

    host: str
    tone_hz: float
    payload_type: int = 0
    sent: list[Packet] = field(default_factory=list)
    received: list[Packet] = field(default_factory=list)
    far_end: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((self.host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)
        self._ssrc = secrets.randbits(32)
        self._seq = secrets.randbits(16)
        self._timestamp = secrets.randbits(32)
        self._played = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def play(self) -> None:
        """Send the tone from now on, a packet every 20 ms."""
        if self._timer is None:
            now = self._loop.time()
            if self._next:  # the sampling clock ran on in a pause (RFC 3550 §5.1)
                self._timestamp = (self._timestamp + round((now - self._next) / PTIME) * SAMPLES) & 0xFFFFFFFF
            self._next = now
            self._tick()

    def pause(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self.send(self._tone())
        self._next += PTIME
        self._timer = self._loop.call_at(self._next, self._tick)

    def _tone(self) -> bytes:
        times = np.arange(self._played, self._played + SAMPLES) / 8000
        self._played += SAMPLES
        samples = np.round(8000 * np.sin(2 * np.pi * self.tone_hz * times)).astype(np.int16)
        encoded = encode_alaw(samples) if self.payload_type == 8 else encode_ulaw(samples)
        return bytes(encoded)

    def send(self, payload: bytes, *, payload_type: int | None = None, marker: bool = False) -> None:
        """Send one packet of 20 ms."""
        number = self.payload_type if payload_type is None else payload_type
        second = number | (0x80 if marker else 0)
        header = struct.pack("!BBHII", 0x80, second, self._seq, self._timestamp, self._ssrc)
        self._seq = (self._seq + 1) & 0xFFFF
        self._timestamp = (self._timestamp + SAMPLES) & 0xFFFFFFFF
        if self.far_end is not None:
            self._socket.sendto(header + payload, self.far_end)
            self.sent.append(Packet(header + payload, self._loop.time()))

    def press(self, keys: str) -> None:
        """Send keys as telephone-events (RFC 4733 §2.5.1): two updates and three times the end of each, at once."""
        for key in keys:
            timestamp = self._timestamp
            for duration, ended in ((160, 0), (320, 0), (480, 0x80), (480, 0x80), (480, 0x80)):
                self._timestamp = timestamp
                payload = struct.pack("!BBH", "0123456789*#ABCD".index(key), 10 | ended, duration)
                self.send(payload, payload_type=101, marker=duration == 160)
            self._timestamp = (timestamp + 480) & 0xFFFFFFFF

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(2048)
            except OSError:
                break
            self.received.append(Packet(data, self._loop.time()))
        for waiter in [w for w in self._waiters if len(self.received) >= w[0]]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    async def heard(self, packets: int, seconds: float = 10.0) -> None:
        """Wait until that many packets have been received. Raises TimeoutError."""
        if len(self.received) < packets:
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append((packets, future))
            async with asyncio.timeout(seconds):
                await future

    def close(self) -> None:
        self.pause()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()


class PhoneCall:
    """One call of a phone."""

    def __init__(self, phone: Phone, session: InviteSession | None = None) -> None:
        self.phone = phone
        self.session = session
        self.rtp = RtpStream(phone.host, phone.tone_hz, phone.payload_type)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.provisionals: list[Response] = []
        self.exchanges: asyncio.Queue[ClientExchange] = asyncio.Queue()
        self.offers: list[Request] = []
        self.remote_direction = Direction.SENDRECV
        self.late_offer = False
        self.ended_status: int | None = None
        self._version = 1

    def sdp(self, direction: Direction = Direction.SENDRECV) -> bytes:
        """Our offer or answer: one audio stream with telephone-event."""
        self._version += 1
        number = self.rtp.payload_type
        codec = CODECS[number]
        attributes = (("rtpmap", f"{number} {codec.name}/8000"), ("rtpmap", "101 telephone-event/8000"),
                      ("fmtp", "101 0-16"), ("ptime", "20"), (str(direction), None))  # fmt: skip
        media = Media("audio", self.rtp.port, "RTP/AVP", (str(number), "101"), attributes=attributes)
        origin = Origin("phone", 1, self._version, self.phone.host)
        return bytes(SessionDescription(origin, "-", self.phone.host, media=(media,)))

    def take_sdp(self, body: bytes) -> None:
        """The far end's description: where the tone goes to."""
        description = SessionDescription.parse(body)
        media = description.media[0]
        host = description.address(media)
        self.remote_direction = description.direction(media)
        self.rtp.far_end = (host, media.port) if host and media.port else None
        if self.rtp.far_end is not None and self.remote_direction.receives and self.phone.plays:
            self.rtp.play()
        else:
            self.rtp.pause()

    def hang_up(self) -> None:
        assert self.session is not None
        self.phone.act(self.session.bye)
        self._close()

    def cancel(self) -> None:
        assert self.session is not None
        self.phone.act(self.session.cancel)

    async def offer(self, body: bytes, method: str = "INVITE") -> ClientExchange:
        """Send a re-INVITE or UPDATE; gives the finished exchange, its 2xx ACKed."""
        assert self.session is not None
        session = self.session
        self.phone.act(lambda now: session.send_offer(method, now, body))
        return await self.exchanges.get()

    async def hold(self) -> ClientExchange:
        self.rtp.pause()
        return await self.offer(self.sdp(Direction.SENDONLY))

    async def resume(self) -> ClientExchange:
        return await self.offer(self.sdp())

    def _close(self, status: int | None = None) -> None:
        self.ended_status = status
        self.rtp.close()
        self.ended.set()


class Phone:
    """A user agent with a tone. ``on_call`` decides what to do with an incoming call; by default it is answered."""

    def __init__(
        self, host: str, transport: str, *, tone_hz: float, username: str, password: str, port: int = 0,
        contexts: TlsContexts | None = None,
    ) -> None:  # fmt: skip
        self.host = host
        self.transport_name = transport
        self.tone_hz = tone_hz
        self.username = username
        self.password = password
        self.payload_type = 0
        self.plays = True
        self.on_call: Callable[[PhoneCall, float], None] = self.answer
        self.calls: dict[InviteSession, PhoneCall] = {}
        self.incoming: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self.invites: list[Request] = []
        self.errors: list[Exception] = []
        self._cseq = 0
        self._transport = SipTransport([(transport, host, port)], contexts=contexts)
        self.agent = UserAgent(
            self,
            self._transport.endpoints,
            token=lambda: secrets.token_hex(8),
            choose=lambda low, high: low,
            connected=self._transport.connected,
            t1=0.1,
        )

    @classmethod
    async def open(
        cls,
        host: str = "127.0.0.1",
        transport: str = "udp",
        *,
        tone_hz: float = 440.0,
        username: str = "phone",
        password: str = "",
        port: int = 0,
        contexts: TlsContexts | None = None,
    ) -> Phone:
        """``contexts``: for the transport ``tls``."""
        phone = cls(
            host, transport, tone_hz=tone_hz, username=username, password=password, port=port, contexts=contexts
        )
        await phone._transport.start(phone.agent)
        return phone

    @property
    def port(self) -> int:
        return self._transport.endpoints[0].port

    @property
    def address(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    def act(self, action: Callable[[float], object]) -> None:
        """Do something with the user agent and send what it gives."""
        self._transport.call_user(lambda now: (action(now), None)[1])

    async def close(self) -> None:
        for call in self.calls.values():
            if not call.ended.is_set():
                call._close()
        await self._transport.close()

    # -- calling -----------------------------------------------------------------------------------------------------

    def dial(self, uri: str, *, headers: Headers = (), late_offer: bool = False) -> PhoneCall:
        """Send an INVITE; the call's ``answered`` future tells what comes of it."""
        call = PhoneCall(self)
        call.late_offer = late_offer
        flow = self._flow(uri)
        session = self.agent.invite(self, flow, secrets.token_hex(4))
        session.credentials = (self.username, self.password) if self.password else None
        call.session = session
        self.calls[session] = call
        body = b"" if late_offer else call.sdp()
        secure = uri.startswith("sips:")
        values = [
            ("max-forwards", "70"),
            ("from", f"<{'sips' if secure else 'sip'}:{self.username}@{self.address}>;tag={session.local_tag}"),
            ("to", f"<{uri.partition(';')[0]}>"),
            ("call-id", secrets.token_hex(8)),
            ("cseq", "1 INVITE"),
            ("contact", self.agent.contact(flow, secure=secure)),
            ("allow", self.agent.allow),
            *headers,
        ]
        if body:
            values.append(("content-type", "application/sdp"))
        self.act(lambda now: session.start(Request("INVITE", uri, values, body), now))
        return call

    async def call(self, uri: str, *, headers: Headers = (), late_offer: bool = False) -> PhoneCall:
        """Dial and wait for the answer. Raises CallFailed."""
        call = self.dial(uri, headers=headers, late_offer=late_offer)
        async with asyncio.timeout(30):
            await call.answered
        return call

    def _flow(self, uri: str) -> Flow:
        flow = self.agent.flow_to(Uri.parse(uri))
        if flow is None:
            raise ValueError(f"no way to {uri} over {self.transport_name}")
        return flow

    async def register(self, uri: str, expires: int = 60) -> Response:
        """Register with the registrar at ``uri``; gives the final response to the authenticated REGISTER."""
        flow = self._flow(uri)
        domain = uri.partition(";")[0].removeprefix("sips:").removeprefix("sip:")
        first = await self._register(uri, flow, domain, expires, "")
        if first.status != 401:
            return first
        answer = authorization_for(
            first.all("www-authenticate"), "REGISTER", uri, self.username, self.password, cnonce=secrets.token_hex(8)
        )
        return await self._register(uri, flow, domain, expires, answer or "")

    def _contact(self, secure: bool) -> str:
        if secure:
            return f"<sips:{self.username}@{self.address}>"
        return f"<sip:{self.username}@{self.address};transport={self.transport_name}>"

    async def _register(self, uri: str, flow: Flow, domain: str, expires: int, answer: str) -> Response:
        self._cseq += 1
        secure = uri.startswith("sips:")
        identity = f"<{'sips' if secure else 'sip'}:{self.username}@{domain}>"
        values = [
            ("max-forwards", "70"), ("from", f"{identity};tag={secrets.token_hex(4)}"), ("to", identity),
            ("call-id", f"register-{self.username}-{self.port}"), ("cseq", f"{self._cseq} REGISTER"),
            ("contact", self._contact(secure)),
            ("expires", str(expires)),
        ]  # fmt: skip
        if answer:
            values.append(("authorization", answer))
        waiter = _Waiter()
        self.act(lambda now: self.agent.send_request(Request("REGISTER", uri, values), flow, waiter, now))
        async with asyncio.timeout(10):
            return await waiter.future

    # -- session user ------------------------------------------------------------------------------------------------

    def on_provisional(self, session: InviteSession, response: Response, now: float) -> None:
        call = self.calls[session]
        call.provisionals.append(response)
        if response.body:
            call.take_sdp(response.body)

    def on_answer(self, session: InviteSession, response: Response, now: float) -> None:
        call = self.calls[session]
        if response.body:
            call.take_sdp(response.body)
        session.ack(now, call.sdp() if call.late_offer else b"")
        if not call.answered.done():
            call.answered.set_result(None)

    def on_reject(self, session: InviteSession, status: int, response: Response | None, now: float) -> None:
        call = self.calls[session]
        if not call.answered.done():
            call.answered.set_exception(CallFailed(status))
        call._close(status)

    def on_ack(self, session: InviteSession, request: Request, exchange: ServerExchange | None, now: float) -> None:
        call = self.calls[session]
        if request.body:
            call.take_sdp(request.body)
        if exchange is None and not call.answered.done():
            call.answered.set_result(None)

    def on_cancel(self, session: InviteSession, now: float) -> None:
        self.calls[session]._close(487)

    def on_bye(self, session: InviteSession, now: float) -> None:
        self.calls[session]._close()

    def on_lost(self, session: InviteSession, status: int, now: float) -> None:
        self.calls[session]._close(status)

    def on_offer(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        call = self.calls[session]
        call.offers.append(exchange.request)
        if not exchange.request.body:
            exchange.respond(200, now, call.sdp() if exchange.method == "INVITE" else b"")
            return
        call.take_sdp(exchange.request.body)
        exchange.respond(200, now, call.sdp(call.remote_direction.reversed))

    def on_info(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        self.calls[session].offers.append(exchange.request)
        exchange.respond(200, now)

    def on_exchange(self, session: InviteSession, exchange: ClientExchange, now: float) -> None:
        call = self.calls[session]
        if exchange.response is not None and 200 <= exchange.status < 300:
            if exchange.response.body:
                call.take_sdp(exchange.response.body)
            if exchange.method == "INVITE":
                exchange.ack(now)
        call.exchanges.put_nowait(exchange)

    # -- user agent handler ------------------------------------------------------------------------------------------

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        self.invites.append(request)
        session.user = self
        call = PhoneCall(self, session)
        self.calls[session] = call
        if request.body:
            call.take_sdp(request.body)
        self.incoming.put_nowait(call)
        self.on_call(call, now)

    def answer(self, call: PhoneCall, now: float) -> None:
        """Ring and answer at once."""
        assert call.session is not None
        call.session.provisional(180, now)
        call.session.answer(now, call.sdp())

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        raise SipError(405)

    def on_malformed(self, flow: Flow, error: SipError) -> None:
        self.errors.append(error)

    def on_exception(self, error: Exception) -> None:
        self.errors.append(error)


class _Waiter(InviteSession):
    """Takes the final response of a request outside a dialog."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if response.status >= 200 and not self.future.done():
            self.future.set_result(response)

    def receive_failure(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if not self.future.done():
            self.future.set_exception(CallFailed(status))
