"""Transactions (RFC 3261 §17, RFC 6026): four state machines, each a table of transitions.

A table maps (state, event) to (next state, actions). Events are classes of responses, requests and timers by their
RFC names; an event that a table does not list is ignored in that state. Actions are methods of the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import ClassVar, Protocol

from gateway.sip.flow import Flow, reply_flow, stamp_via
from gateway.sip.message import MAGIC_COOKIE, Message, Request, Response
from gateway.sip.timers import TimerQueue
from gateway.sip.uri import bracketed


class State(Enum):
    """RFC 3261 §17 and RFC 6026 §8 states."""

    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


S = State
Table = Mapping[tuple[State, str], tuple[State, tuple[str, ...]]]

INVITE_CLIENT: Table = {
    (S.CALLING, "1xx"): (S.PROCEEDING, ("stop_retransmitting", "deliver")),
    (S.CALLING, "2xx"): (S.ACCEPTED, ("stop_retransmitting", "start_m", "deliver")),
    (S.CALLING, "3xx-6xx"): (S.COMPLETED, ("stop_retransmitting", "send_ack", "start_d", "deliver")),
    (S.CALLING, "timer A"): (S.CALLING, ("retransmit", "start_a")),
    (S.CALLING, "timer B"): (S.TERMINATED, ("fail_timeout",)),
    (S.CALLING, "transport error"): (S.TERMINATED, ("fail_transport",)),
    (S.PROCEEDING, "1xx"): (S.PROCEEDING, ("deliver",)),
    (S.PROCEEDING, "2xx"): (S.ACCEPTED, ("start_m", "deliver")),
    (S.PROCEEDING, "3xx-6xx"): (S.COMPLETED, ("send_ack", "start_d", "deliver")),
    (S.COMPLETED, "3xx-6xx"): (S.COMPLETED, ("send_ack",)),
    (S.COMPLETED, "transport error"): (S.TERMINATED, ("fail_transport",)),
    (S.COMPLETED, "timer D"): (S.TERMINATED, ()),
    (S.ACCEPTED, "2xx"): (S.ACCEPTED, ("deliver",)),
    (S.ACCEPTED, "timer M"): (S.TERMINATED, ()),
}
"""RFC 3261 figure 5 with RFC 6026 §7.2. Ringing without end is for the transaction user to stop (timer C)."""

NON_INVITE_CLIENT: Table = {
    (S.TRYING, "1xx"): (S.PROCEEDING, ("deliver",)),
    (S.TRYING, "2xx"): (S.COMPLETED, ("stop_retransmitting", "start_k", "deliver")),
    (S.TRYING, "3xx-6xx"): (S.COMPLETED, ("stop_retransmitting", "start_k", "deliver")),
    (S.TRYING, "timer E"): (S.TRYING, ("retransmit", "start_e")),
    (S.TRYING, "timer F"): (S.TERMINATED, ("fail_timeout",)),
    (S.TRYING, "transport error"): (S.TERMINATED, ("fail_transport",)),
    (S.PROCEEDING, "1xx"): (S.PROCEEDING, ("deliver",)),
    (S.PROCEEDING, "2xx"): (S.COMPLETED, ("stop_retransmitting", "start_k", "deliver")),
    (S.PROCEEDING, "3xx-6xx"): (S.COMPLETED, ("stop_retransmitting", "start_k", "deliver")),
    (S.PROCEEDING, "timer E"): (S.PROCEEDING, ("retransmit", "start_e_slow")),
    (S.PROCEEDING, "timer F"): (S.TERMINATED, ("fail_timeout",)),
    (S.PROCEEDING, "transport error"): (S.TERMINATED, ("fail_transport",)),
    (S.COMPLETED, "timer K"): (S.TERMINATED, ()),
}
"""RFC 3261 figure 6."""

INVITE_SERVER: Table = {
    (S.PROCEEDING, "request"): (S.PROCEEDING, ("retransmit",)),
    (S.PROCEEDING, "send 1xx"): (S.PROCEEDING, ("send",)),
    (S.PROCEEDING, "send 2xx"): (S.ACCEPTED, ("send", "start_l")),
    (S.PROCEEDING, "send 3xx-6xx"): (S.COMPLETED, ("send", "start_g", "start_h")),
    (S.COMPLETED, "request"): (S.COMPLETED, ("retransmit",)),
    (S.COMPLETED, "timer G"): (S.COMPLETED, ("retransmit", "start_g")),
    (S.COMPLETED, "timer H"): (S.TERMINATED, ()),
    (S.COMPLETED, "ack"): (S.CONFIRMED, ("stop_retransmitting", "start_i")),
    (S.CONFIRMED, "timer I"): (S.TERMINATED, ()),
    (S.ACCEPTED, "send 2xx"): (S.ACCEPTED, ("send",)),
    (S.ACCEPTED, "ack"): (S.ACCEPTED, ("deliver_ack",)),
    (S.ACCEPTED, "timer L"): (S.TERMINATED, ()),
}
"""RFC 3261 figure 7 with RFC 6026 §7.1; the 2xx is retransmitted by the transaction user."""

NON_INVITE_SERVER: Table = {
    (S.TRYING, "send 1xx"): (S.PROCEEDING, ("send",)),
    (S.TRYING, "send 2xx"): (S.COMPLETED, ("send", "start_j")),
    (S.TRYING, "send 3xx-6xx"): (S.COMPLETED, ("send", "start_j")),
    (S.PROCEEDING, "request"): (S.PROCEEDING, ("retransmit",)),
    (S.PROCEEDING, "send 1xx"): (S.PROCEEDING, ("send",)),
    (S.PROCEEDING, "send 2xx"): (S.COMPLETED, ("send", "start_j")),
    (S.PROCEEDING, "send 3xx-6xx"): (S.COMPLETED, ("send", "start_j")),
    (S.COMPLETED, "request"): (S.COMPLETED, ("retransmit",)),
    (S.COMPLETED, "timer J"): (S.TERMINATED, ()),
}
"""RFC 3261 figure 8."""

_CLASSES = {1: "1xx", 2: "2xx"}
Key = tuple[str, ...]


class TransactionUser(Protocol):
    """RFC 3261 §5: what sits above the transactions."""

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A new request (never ACK)."""

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        """An ACK that belongs to a 2xx."""

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A response; a 2xx to INVITE each time it comes."""

    def on_failure(self, transaction: ClientTransaction, status: int, now: float) -> None:
        """No final response will come: 408 (timeout) or 503 (transport error), RFC 3261 §8.1.3.1."""


class Transaction:
    """What the four machines share."""

    table: ClassVar[Table]
    __slots__ = ("context", "deadlines", "flow", "interval", "key", "last", "layer", "nested", "now", "request",
                 "state", "tu")  # fmt: skip

    def __init__(self, layer: TransactionLayer, key: Key, request: Request, flow: Flow, state: State) -> None:
        self.layer = layer
        self.key = key
        self.request = request
        self.flow = flow
        self.state = state
        self.last = b""
        self.deadlines: dict[str, float] = {}
        self.interval = layer.t1
        self.now = 0.0
        self.nested = 0
        self.tu: object = None
        """The transaction user's own: whom it belongs to, and what it is about."""
        self.context: object = None

    def fire(self, event: str, now: float, subject: Message | None = None) -> bool:
        """Make the transition that the table has for ``event``; False when it has none."""
        found = self.table.get((self.state, event))
        if found is None:
            return False
        self.state, actions = found
        self.now = now
        self.nested += 1  # a timer of no length fires within an action
        for action in actions:
            getattr(self, action)(subject)
        self.nested -= 1
        if self.state is State.TERMINATED:
            self.layer.forget(self)
            if not self.nested:
                self.tu = self.context = None
        return True

    def on_timer(self, name: str, now: float) -> None:
        self.fire(name, now)

    def retransmit(self, _: Message | None) -> None:
        if self.last:
            self.layer.transmit(self.flow, self.last)

    def stop_retransmitting(self, _: Message | None) -> None:
        self.layer.timers.stop(self)

    def start(self, name: str, seconds: float) -> None:
        """Set a timer; where it is zero (reliable transports), the state is left at once."""
        if seconds > 0:
            self.layer.timers.start(self, name, self.now + seconds)
        else:
            self.fire(name, self.now)

    def _back_off(self, name: str, limit: float) -> None:
        if not self.flow.reliable:
            self.layer.timers.start(self, name, self.now + self.interval)
            self.interval = min(self.interval * 2, limit)

    @property
    def linger(self) -> float:
        """T4 for unreliable transports, else nothing."""
        return 0.0 if self.flow.reliable else self.layer.t4


class ClientTransaction(Transaction):
    """RFC 3261 §17.1."""

    __slots__ = ()

    def begin(self, now: float) -> None:
        """Send the request and start the timers."""
        self.now = now
        self.last = bytes(self.request)
        if self.state is State.CALLING:
            self.start_a(None)
            self.layer.timers.start(self, "timer B", now + 64 * self.layer.t1)
        else:
            self.start_e(None)
            self.layer.timers.start(self, "timer F", now + 64 * self.layer.t1)
        self.layer.transmit(self.flow, self.last)

    def receive(self, response: Response, now: float) -> None:
        self.fire(_CLASSES.get(response.status // 100, "3xx-6xx"), now, response)

    def deliver(self, response: Message | None) -> None:
        assert isinstance(response, Response)
        self.layer.user.on_response(self, response, self.now)

    def fail_timeout(self, _: Message | None) -> None:
        self.layer.user.on_failure(self, 408, self.now)

    def fail_transport(self, _: Message | None) -> None:
        self.layer.user.on_failure(self, 503, self.now)

    def start_a(self, _: Message | None) -> None:
        self._back_off("timer A", float("inf"))

    def start_e(self, _: Message | None) -> None:
        self._back_off("timer E", self.layer.t2)

    def start_e_slow(self, _: Message | None) -> None:
        self.interval = self.layer.t2
        self._back_off("timer E", self.layer.t2)

    def start_d(self, _: Message | None) -> None:
        self.start("timer D", 0.0 if self.flow.reliable else max(32.0, 64 * self.layer.t1))

    def start_k(self, _: Message | None) -> None:
        self.start("timer K", self.linger)

    def start_m(self, _: Message | None) -> None:
        self.layer.timers.stop(self)
        self.start("timer M", 64 * self.layer.t1)

    def send_ack(self, response: Message | None) -> None:
        """ACK to a final non-2xx: same branch, the To of the response (RFC 3261 §17.1.1.3)."""
        assert isinstance(response, Response)
        headers = [(k, v) for k, v in self.request.headers if k in ("via", "route", "from", "call-id", "max-forwards")]
        headers += [("to", response.get("to") or ""), ("cseq", f"{self.request.cseq[0]} ACK")]
        self.layer.transmit(self.flow, bytes(Request("ACK", self.request.uri, headers)))


class InviteClient(ClientTransaction):
    table = INVITE_CLIENT
    __slots__ = ()


class NonInviteClient(ClientTransaction):
    table = NON_INVITE_CLIENT
    __slots__ = ()


class ServerTransaction(Transaction):
    """RFC 3261 §17.2. ``flow`` is where responses go."""

    __slots__ = ()

    def respond(self, response: Response, now: float) -> bool:
        """Send a response if the state still allows it; False when a final one was sent before."""
        return self.fire(f"send {_CLASSES.get(response.status // 100, '3xx-6xx')}", now, response)

    @property
    def answered(self) -> bool:
        """A final response has been sent."""
        return self.state not in (State.TRYING, State.PROCEEDING)

    def send(self, response: Message | None) -> None:
        self.last = bytes(response) if response is not None else b""
        self.layer.transmit(self.flow, self.last)

    def deliver_ack(self, request: Message | None) -> None:
        assert isinstance(request, Request)
        self.layer.user.on_ack(request, self.flow, self.now)

    def start_g(self, _: Message | None) -> None:
        self._back_off("timer G", self.layer.t2)

    def start_h(self, _: Message | None) -> None:
        self.start("timer H", 64 * self.layer.t1)

    def start_i(self, _: Message | None) -> None:
        self.start("timer I", self.linger)

    def start_j(self, _: Message | None) -> None:
        self.start("timer J", 0.0 if self.flow.reliable else 64 * self.layer.t1)

    def start_l(self, _: Message | None) -> None:
        self.start("timer L", 64 * self.layer.t1)


class InviteServer(ServerTransaction):
    table = INVITE_SERVER
    __slots__ = ()


class NonInviteServer(ServerTransaction):
    table = NON_INVITE_SERVER
    __slots__ = ()


class TransactionLayer:
    """All transactions of one user agent. ``transmit`` takes what is to be sent."""

    def __init__(
        self,
        user: TransactionUser,
        transmit: Callable[[Flow, bytes], None],
        timers: TimerQueue,
        *,
        t1: float = 0.5,
        t2: float = 4.0,
        t4: float = 5.0,
    ) -> None:
        self.user = user
        self.transmit = transmit
        self.timers = timers
        self.t1, self.t2, self.t4 = t1, t2, t4
        self._server: dict[Key, ServerTransaction] = {}
        self._client: dict[Key, ClientTransaction] = {}

    def __len__(self) -> int:
        return len(self._server) + len(self._client)

    def request(self, request: Request, flow: Flow, via: str, branch: str, now: float) -> ClientTransaction:
        """Send ``request`` in a new client transaction, with a Via of sent-by ``via`` on top (RFC 3261 §18.1.1)."""
        request.headers.insert(0, ("via", f"SIP/2.0/{flow.transport.upper()} {via};branch={branch};rport"))
        if request.method == "INVITE":
            transaction: ClientTransaction = InviteClient(self, (branch, "INVITE"), request, flow, State.CALLING)
        else:
            transaction = NonInviteClient(self, (branch, request.method), request, flow, State.TRYING)
        self._client[transaction.key] = transaction
        transaction.begin(now)
        return transaction

    def receive_request(self, request: Request, flow: Flow, now: float) -> None:
        """A request that passed ``Request.check``: to its transaction, or a new one (RFC 3261 §17.2.3)."""
        stamp_via(request, flow)
        key = server_key(request)
        existing = self._server.get(key)
        if request.method == "ACK":
            if existing is not None:
                existing.fire("ack", now, request)
            else:
                self.user.on_ack(request, flow, now)
            return
        if existing is not None:
            existing.fire("request", now, request)
            return
        back = reply_flow(request, flow)
        if request.method == "INVITE":
            created: ServerTransaction = InviteServer(self, key, request, back, State.PROCEEDING)
        else:
            created = NonInviteServer(self, key, request, back, State.TRYING)
        self._server[key] = created
        self.user.on_request(created, request, now)

    def receive_response(self, response: Response, now: float) -> bool:
        """A response that passed ``Response.check``; one that matches nothing is dropped (RFC 3261 §17.1.3). Whether it
        matched."""
        transaction = self._client.get((response.via.branch, response.cseq[1]))
        if transaction is not None:
            transaction.receive(response, now)
        return transaction is not None

    def knows(self, request: Request) -> bool:
        """Whether a request belongs to a server transaction that there is; a CANCEL: to the one that it means."""
        return server_key(request, "INVITE" if request.method == "CANCEL" else None) in self._server

    def invite_to_cancel(self, cancel: Request) -> ServerTransaction | None:
        """The INVITE transaction that a CANCEL means (RFC 3261 §9.2)."""
        return self._server.get(server_key(cancel, "INVITE"))

    def transport_failed(self, flow: Flow, now: float) -> None:
        """Nothing can be sent on ``flow``: its client transactions fail (RFC 3261 §17.1.4)."""
        for transaction in [t for t in self._client.values() if t.flow == flow]:
            transaction.fire("transport error", now)

    def forget(self, transaction: Transaction) -> None:
        self.timers.stop(transaction)
        table: dict[Key, Transaction] = self._client if isinstance(transaction, ClientTransaction) else self._server  # type: ignore[assignment]
        table.pop(transaction.key, None)


def server_key(request: Request, method: str | None = None) -> Key:
    """What makes two requests the same (RFC 3261 §17.2.3); ACK and INVITE share a key."""
    method = method or ("INVITE" if request.method == "ACK" else request.method)
    via = request.via
    branch = via.branch
    if branch.startswith(MAGIC_COOKIE) and len(branch) > len(MAGIC_COOKIE):
        return (branch, via.host, str(via.port or ""), method)
    # RFC 2543 peers: no unique branch
    tag = request.from_.tag or ""
    top = f"{via.transport} {bracketed(via.host)} {via.port} {branch}"
    return (request.uri, tag, request.call_id, str(request.cseq[0]), top, method)
