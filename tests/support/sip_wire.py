"""A user agent, or its transaction layer, on a wire in memory with a clock that is moved by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.invite import ClientExchange, InviteSession, ServerExchange
from gateway.sip.message import Request, Response, parse
from gateway.sip.timers import TimerQueue
from gateway.sip.transaction import ClientTransaction, ServerTransaction, TransactionLayer
from gateway.sip.user_agent import Endpoint, UserAgent

UDP = Flow("udp", "192.0.2.1", 5060, "192.0.2.10", 5060)
TCP = Flow("tcp", "192.0.2.1", 5060, "192.0.2.10", 40000)


def text(start: str, *headers: str, body: bytes = b"") -> bytes:
    """A message of these lines; Content-Length is added."""
    return "\r\n".join([start, *headers, f"Content-Length: {len(body)}", "", ""]).encode() + body


def request(
    method: str, *, branch: str = "z9hG4bK1", cseq: int = 1, to_tag: str = "", uri: str = "sip:bob@192.0.2.1",
    call_id: str = "call-1", transport: str = "UDP", extra: tuple[str, ...] = (), body: bytes = b"",
) -> bytes:  # fmt: skip
    """A request of the far end (alice)."""
    return text(
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} 192.0.2.10:5060;branch={branch}",
        "Max-Forwards: 70",
        "From: <sip:alice@192.0.2.10>;tag=a",
        "To: <sip:bob@192.0.2.1>" + (f";tag={to_tag}" if to_tag else ""),
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        "Contact: <sip:alice@192.0.2.10:5060>",
        *extra,
        body=body,
    )


def answer(sent: bytes, status: int, *, tag: str = "b", extra: tuple[str, ...] = (), body: bytes = b"") -> bytes:
    """The far end's response to a request that we sent."""
    asked = parse(sent)
    assert isinstance(asked, Request)
    response = asked.response(status, to_tag=tag)
    for line in extra:
        name, _, value = line.partition(": ")
        response.headers.append((name.lower(), value))
    response.body = body
    return bytes(response)


@dataclass
class Sent:
    """One message that went out."""

    at: float
    flow: Flow
    data: bytes

    @property
    def message(self) -> Request | Response:
        return parse(self.data)

    @property
    def what(self) -> str:
        """``INVITE`` for a request, ``200`` for a response."""
        message = self.message
        return message.method if isinstance(message, Request) else str(message.status)


class Layer:
    """A transaction layer alone; what it tells its user is kept."""

    def __init__(self, t1: float = 0.5) -> None:
        self.now = 0.0
        self.sent: list[Sent] = []
        self.timers = TimerQueue()
        self.layer = TransactionLayer(self, lambda f, d: self.sent.append(Sent(self.now, f, d)), self.timers, t1=t1)
        self.requests: list[ServerTransaction] = []
        self.acks: list[Request] = []
        self.responses: list[int] = []
        self.failures: list[int] = []

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        self.requests.append(transaction)

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        self.acks.append(request)

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        self.responses.append(response.status)

    def on_failure(self, transaction: ClientTransaction, status: int, now: float) -> None:
        self.failures.append(status)

    def receive(self, data: bytes, flow: Flow = UDP) -> None:
        message = parse(data)
        message.check()
        if isinstance(message, Request):
            self.layer.receive_request(message, flow, self.now)
        else:
            self.layer.receive_response(message, self.now)

    def until(self, seconds: float) -> None:
        """Let every timer up to a time fire at its own time."""
        while (deadline := self.timers.next_deadline()) is not None and deadline <= seconds:
            self.now = deadline
            self.timers.advance(deadline)
        self.now = seconds

    def times(self) -> list[float]:
        return [round(sent.at, 3) for sent in self.sent]


@dataclass
class Told:
    """What a session told its user."""

    events: list[str] = field(default_factory=list)
    exchanges: list[ServerExchange] = field(default_factory=list)
    results: list[ClientExchange] = field(default_factory=list)


class Wire:
    """A user agent whose far end is the test."""

    def __init__(self, flow: Flow = UDP, *, answer_with: int | None = None) -> None:
        self.flow, self.now = flow, 0.0
        self.told = Told()
        self.sessions: list[InviteSession] = []
        self.malformed: list[SipError] = []
        self.defects: list[Exception] = []
        self._answer_with = answer_with
        self._numbers = itertools.count(1)
        self.sent: list[Sent] = []
        self.agent = UserAgent(
            self, [Endpoint(flow.transport, flow.local_host, flow.local_port)],
            token=lambda: f"t{next(self._numbers)}", choose=lambda low, high: (low + high) // 2,
        )  # fmt: skip

    # -- the far end -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[str]:
        """Something arrives; gives what went out because of it."""
        before = len(self.sent)
        self.agent.receive(data, self.flow, self.now)
        self._collect()
        return [sent.what for sent in self.sent[before:]]

    def until(self, seconds: float) -> list[str]:
        """Let time pass; gives what went out meanwhile."""
        before = len(self.sent)
        while (deadline := self.agent.next_deadline()) is not None and deadline <= seconds:
            self.now = max(self.now, deadline)
            self.agent.advance(self.now)
            self._collect()
        self.now = seconds
        return [sent.what for sent in self.sent[before:]]

    def act(self) -> list[str]:
        """Collect what went out because of something that the test did to a session."""
        before = len(self.sent)
        self._collect()
        return [sent.what for sent in self.sent[before:]]

    def _collect(self) -> None:
        self.sent += [Sent(self.now, flow, data) for flow, data in self.agent.take()]

    def last(self, what: str) -> Sent:
        return next(sent for sent in reversed(self.sent) if sent.what == what)

    def invite(self, uri: str = "sip:bob@192.0.2.10") -> InviteSession:
        """Send an INVITE of ours."""
        session = self.agent.invite(self, self.flow, "local")
        headers = [
            ("max-forwards", "70"), ("from", "<sip:us@192.0.2.1>;tag=local"), ("to", "<sip:bob@192.0.2.10>"),
            ("call-id", "ours"), ("cseq", "1 INVITE"), ("contact", self.agent.contact(self.flow)),
        ]  # fmt: skip
        session.start(Request("INVITE", uri, headers), self.now)
        self.sessions.append(session)
        self._collect()
        return session

    # -- user agent handler and session user -------------------------------------------------------------------------

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        session.user = self
        self.sessions.append(session)
        if self._answer_with is not None:
            session.answer(now, b"")

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        raise SipError(404)

    def on_malformed(self, flow: Flow, error: SipError) -> None:
        self.malformed.append(error)

    def on_exception(self, error: Exception) -> None:
        self.defects.append(error)

    def on_provisional(self, session: InviteSession, response: Response, now: float) -> None:
        self.told.events.append(f"provisional {response.status}")

    def on_answer(self, session: InviteSession, response: Response, now: float) -> None:
        self.told.events.append("answer")
        session.ack(now)

    def on_reject(self, session: InviteSession, status: int, response: Response | None, now: float) -> None:
        self.told.events.append(f"reject {status}")

    def on_ack(self, session: InviteSession, request: Request, exchange: ServerExchange | None, now: float) -> None:
        self.told.events.append("ack" if exchange is None else "ack of offer")

    def on_cancel(self, session: InviteSession, now: float) -> None:
        self.told.events.append("cancel")

    def on_bye(self, session: InviteSession, now: float) -> None:
        self.told.events.append("bye")

    def on_lost(self, session: InviteSession, status: int, now: float) -> None:
        self.told.events.append(f"lost {status}")

    def on_offer(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        self.told.events.append(f"offer {exchange.method}")
        self.told.exchanges.append(exchange)

    def on_info(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        self.told.events.append("info")
        exchange.respond(200, now)

    def on_exchange(self, session: InviteSession, exchange: ClientExchange, now: float) -> None:
        self.told.events.append(f"result {exchange.status}")
        self.told.results.append(exchange)
        if exchange.method == "INVITE" and 200 <= exchange.status < 300:
            exchange.ack(now)
