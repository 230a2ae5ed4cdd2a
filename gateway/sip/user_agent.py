"""The user agent core (RFC 3261 §8): messages and time in, messages and the next deadline out.

It checks what comes in, gives it to transactions, dialogs and sessions, and answers by itself what needs no user:
bad requests, unknown methods and dialogs, OPTIONS, CANCEL. Nothing that is received raises out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from gateway.sip.dialog import Dialog, DialogId
from gateway.sip.errors import Dropped, ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.invite import Headers, InviteSession, SessionUser
from gateway.sip.message import ANY_SIZE, MAGIC_COOKIE, METHODS, MessageLimits, Request, Response, parse
from gateway.sip.screening import RequestGuard, stateless_answer
from gateway.sip.timers import TimerQueue
from gateway.sip.transaction import ClientTransaction, ServerTransaction, TransactionLayer
from gateway.sip.uri import Uri, bracketed, default_port, ip_version


class Endpoint(NamedTuple):
    """Where we listen."""

    transport: str
    host: str
    port: int


class UserAgentHandler(Protocol):
    """What uses the user agent."""

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        """An INVITE outside a dialog; 100 has been sent. May raise SipError."""

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A REGISTER; a response is due. May raise SipError."""

    def on_malformed(self, flow: Flow, error: SipError) -> None:
        """Something that is no SIP message, or a bad one, came in; for counting and a log of bounded rate."""

    def on_exception(self, error: Exception) -> None:
        """A defect of ours showed while a message or timer was handled; for the log."""


class UserAgent:
    """One user agent on several endpoints. ``token`` gives unguessable hexadecimal text, ``choose(a, b)`` a number.
    ``connected`` tells whether a connection to the far side of a flow is up; without ``guard`` everybody is trusted."""

    def __init__(
        self,
        handler: UserAgentHandler,
        endpoints: Iterable[Endpoint],
        *,
        token: Callable[[], str],
        choose: Callable[[int, int], int],
        software: str = "",
        advertise: Mapping[str, str] | None = None,
        connected: Callable[[Flow], bool] = lambda flow: False,
        guard: RequestGuard | None = None,
        limits: MessageLimits = ANY_SIZE,
        t1: float = 0.5,
        t2: float = 4.0,
        t4: float = 5.0,
    ) -> None:
        self.handler = handler
        self.endpoints = tuple(endpoints)
        self.token = token
        self.choose = choose
        self.software = software
        self.advertise = dict(advertise or {})
        self.connected = connected
        self.guard = guard
        self.limits = limits
        self._stateless_key = (token() * 4).encode()[:32]
        self.t1, self.t2 = t1, t2
        self.allow = ", ".join(METHODS)
        self.timers = TimerQueue()
        self.layer = TransactionLayer(self, self.transmit, self.timers, t1=t1, t2=t2, t4=t4)
        self._outbox: list[tuple[Flow, bytes]] = []
        self._dialogs: dict[DialogId, InviteSession] = {}
        self._of_session: dict[InviteSession, list[DialogId]] = {}
        self._initial: dict[tuple[str, str, int], InviteSession] = {}
        self._sent_by: dict[tuple[str, int], str] = {}

    # -- the shell's side --------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> bool:
        """Take one message; False when it was no SIP message at all (a stream is then out of step), or came over a
        stream from somebody who is not listened to."""
        if self.guard is not None and not self.guard.admits(flow, now):
            return not flow.reliable
        try:
            message = parse(data, self.limits)
        except SipError as error:
            self.handler.on_malformed(flow, error)
            return False
        try:
            if isinstance(message, Request):
                self._receive_request(message, flow, len(data), now)
            else:
                message.check()
                self._receive_response(message, flow, now)
        except SipError as error:
            self.handler.on_malformed(flow, error)
        except Exception as error:  # a defect here must not take the gateway down
            self.handler.on_exception(error)
        return True

    def take(self) -> list[tuple[Flow, bytes]]:
        """What is to be sent now, in order."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_deadline(self) -> float | None:
        return self.timers.next_deadline()

    def advance(self, now: float) -> None:
        """Fire the timers that are due."""
        while True:
            try:
                self.timers.advance(now)
                return
            except Exception as error:  # the timer that raised is off the queue; the others go on
                self.handler.on_exception(error)

    def transport_failed(self, flow: Flow, now: float) -> None:
        """What was sent on ``flow`` could not go out."""
        try:
            self.layer.transport_failed(flow, now)
        except Exception as error:
            self.handler.on_exception(error)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _receive_request(self, request: Request, flow: Flow, size: int, now: float) -> None:
        try:
            request.check()
        except SipError as error:
            self.handler.on_malformed(flow, error)
            if request.method != "ACK" and (self.guard is None or self.guard.known(flow, now)):
                self._refuse_statelessly(request, flow, error)
            return
        if self.guard is None or self._screened(self.guard, request, flow, size, now):
            self.layer.receive_request(request, flow, now)

    def _screened(self, guard: RequestGuard, request: Request, flow: Flow, size: int, now: float) -> bool:
        """Whether a request may come in. What belongs to a dialog or transaction that there is always may."""
        if request.to.tag is not None:
            if guard.known(flow, now):
                return True
            if self.session_of(request) is not None:
                guard.proved(flow, now)
                return True
        elif request.method in ("ACK", "CANCEL") and guard.known(flow, now):
            return True
        if self.layer.knows(request):
            return True
        if request.method == "ACK":
            return False  # of an answer that was forgotten
        refusal = guard.screen(request, flow, now)
        if refusal is None:
            return True
        if not isinstance(refusal, Dropped):
            largest = None if flow.reliable or guard.known(flow, now) else size
            if not self._refuse_statelessly(request, flow, refusal, largest):
                guard.too_large(flow)
        return False

    def _refuse_statelessly(self, request: Request, flow: Flow, error: SipError, largest: int | None = None) -> bool:
        """Answer a request without a transaction, with at most ``largest`` bytes; False when that is too little.

        Raises ParseError if its Via can't be used (then nobody can be told)."""
        answer = stateless_answer(request, flow, error, self._stateless_key, largest)
        if answer is not None:
            self.transmit(*answer)
        return answer is not None

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """From the transaction layer: a new request."""
        try:
            self._dispatch(transaction, request, now)
        except SipError as error:
            self.respond(transaction, error.status, now, error.headers, reason=error.reason)
        except Exception as error:
            self.handler.on_exception(error)
            self.respond(transaction, 500, now)

    def _dispatch(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        if request.method == "CANCEL":
            self._receive_cancel(transaction, request, now)
            return
        self._check_extensions(request, transaction.flow)
        if request.to.tag is not None:
            self._within_dialog(transaction, request, now)
        elif request.method == "INVITE":
            self._receive_invite(transaction, request, now)
        elif request.method == "REGISTER":
            self.handler.on_register(transaction, request, now)
        elif request.method == "OPTIONS":
            self.respond(transaction, 200, now, (("allow", self.allow), ("accept", "application/sdp")))
        elif request.method in ("BYE", "INFO", "UPDATE"):
            raise SipError(481)
        else:
            raise SipError(405 if request.method in _KNOWN else 501, headers=(("allow", self.allow),))

    def _check_extensions(self, request: Request, flow: Flow) -> None:
        """RFC 3261 §8.2.2: scheme, Require, what is to be in the answer, and the body of what carries SDP."""
        if Uri.parse(request.uri).secure and not flow.secure:
            raise SipError(403, "SIPS takes TLS")
        if wanted := [*request.values("require"), *request.values("proxy-require")]:
            raise SipError(420, headers=(("unsupported", ", ".join(wanted)),))
        if request.method in ("INVITE", "UPDATE") and not _accepts_sdp(request):
            raise SipError(406)
        if request.body and request.method in ("INVITE", "UPDATE"):
            if request.get("content-encoding") not in (None, "identity"):
                raise SipError(415, headers=(("accept-encoding", "identity"),))
            if request.content_type not in ("application/sdp", ""):
                raise SipError(415, headers=(("accept", "application/sdp"),))

    def _receive_invite(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        if request.max_forwards == 0:
            raise SipError(483)
        merged = request.call_id, request.from_.tag or "", request.cseq[0]
        if merged in self._initial:
            raise SipError(482, "Request Merged")
        session = InviteSession(self, None, transaction.flow, local_tag=self.token(), server=True)
        session.dialog = Dialog.of_server(request, session.local_tag, transaction.flow)
        session.invite, session.server_transaction = request, transaction
        session.learn(request)
        transaction.tu = session
        self._initial[merged] = session
        self.remember(session.dialog, session)
        transaction.respond(request.response(100), now)
        try:
            self.handler.on_invite(session, request, now)
        except SipError as error:
            session.reject(error.status, now, error.headers, error.reason)
        except Exception as error:
            self.handler.on_exception(error)
            session.reject(500, now)

    def _receive_cancel(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        invite = self.layer.invite_to_cancel(request)
        session = invite.tu if invite is not None else None
        if invite is None:
            raise SipError(481)
        tag = session.local_tag if isinstance(session, InviteSession) else self.token()
        transaction.respond(self.sign(request.response(200, to_tag=tag)), now)
        if isinstance(session, InviteSession) and session.server_transaction is invite:
            session.cancelled_by_peer(now)

    def _within_dialog(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        session = self.session_of(request)
        if request.method == "OPTIONS":
            self.respond(transaction, 200 if session else 481, now, (("allow", self.allow),))
        elif session is None:
            raise SipError(481)
        else:
            session.receive_request(transaction, request, now)

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        """From the transaction layer: an ACK for a 2xx; one without a dialog is dropped (never answered)."""
        session = self.session_of(request)
        if session is not None:
            session.receive_ack(request, now)

    def respond(
        self, transaction: ServerTransaction, status: int, now: float, headers: Headers = (), reason: str = ""
    ) -> None:
        """Answer a request outside any session."""
        response = transaction.request.response(status, reason, to_tag=self.token(), headers=headers)
        transaction.respond(self.sign(response), now)

    # -- responses ---------------------------------------------------------------------------------------------------

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        matched = self.layer.receive_response(response, now)
        if matched and self.guard is not None and not self.guard.known(flow, now):
            self.guard.proved(flow, now)  # it knew the branch

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """From the transaction layer."""
        session = self._owner(transaction)
        if session is not None:
            session.receive_response(transaction, response, now)

    def on_failure(self, transaction: ClientTransaction, status: int, now: float) -> None:
        """From the transaction layer."""
        session = self._owner(transaction)
        if session is not None:
            session.receive_failure(transaction, status, now)

    @staticmethod
    def _owner(transaction: ClientTransaction) -> InviteSession | None:
        return transaction.tu if isinstance(transaction.tu, InviteSession) else None

    # -- what sessions use -------------------------------------------------------------------------------------------

    def invite(self, user: SessionUser, flow: Flow, local_tag: str) -> InviteSession:
        """A session for an outgoing call on ``flow``; ``InviteSession.start`` sends its INVITE."""
        return InviteSession(self, user, flow, local_tag=local_tag, server=False)

    def sign(self, message: Response | Request) -> Response:
        """Add Server or User-Agent, as configured."""
        if self.software:
            message.headers.append(("server" if isinstance(message, Response) else "user-agent", self.software))
        return message  # type: ignore[return-value]

    def contact(self, flow: Flow, *, secure: bool = False) -> str:
        """Our Contact for what goes over ``flow``; ``secure``: a SIPS URI, as the far end used one (§12.1.1)."""
        if secure:
            return f"<sips:{self.sent_by(flow)}>"
        transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"<sip:{self.sent_by(flow)}{transport}>"

    def sent_by(self, flow: Flow) -> str:
        """Our host and port as the far side of ``flow`` is to know them."""
        key = flow.local_host, flow.local_port
        known = self._sent_by.get(key)
        if known is None:
            host = self.advertise.get(flow.local_host, flow.local_host)
            known = self._sent_by[key] = f"{bracketed(host)}:{flow.local_port}"
        return known

    def new_branch(self) -> str:
        return f"{MAGIC_COOKIE}{self.token()}"

    def transmit(self, flow: Flow, data: bytes) -> None:
        self._outbox.append((flow, data))

    def send_request(
        self, request: Request, flow: Flow, session: InviteSession, now: float, context: object = None
    ) -> ClientTransaction:
        """Send a request of ``session`` in a new transaction."""
        transaction = self.layer.request(request, flow, self.sent_by(flow), self.new_branch(), now)
        transaction.tu, transaction.context = session, context
        return transaction

    def send_cancel(self, cancel: Request, invite: ClientTransaction, now: float) -> None:
        """Send a CANCEL with the branch of its INVITE (RFC 3261 §9.1)."""
        self.layer.request(cancel, invite.flow, self.sent_by(invite.flow), invite.key[0], now)

    def send_in_dialog(
        self, session: InviteSession, dialog: Dialog, request: Request, now: float, context: object = None
    ) -> ClientTransaction:
        return self.send_request(request, self.route(dialog), session, now, context)

    def send_ack(self, dialog: Dialog, ack: Request) -> tuple[Flow, bytes]:
        """Send an ACK for a 2xx; gives what was sent, to be repeated for a repeated 2xx."""
        flow = self.route(dialog)
        via = f"SIP/2.0/{flow.transport.upper()} {self.sent_by(flow)};branch={self.new_branch()};rport"
        ack.headers.insert(0, ("via", via))
        sent = flow, bytes(ack)
        self.transmit(*sent)
        return sent

    def route(self, dialog: Dialog) -> Flow:
        """Where a request in ``dialog`` goes (RFC 3263 without DNS): its next hop if that is an IP literal and we
        listen on that transport and family, else where the dialog came about. Without a transport parameter the
        dialog's transport is kept, as deployed peers expect, where RFC 3263 §4.1 would say UDP.

        Over TLS the connection that the dialog came about on is used while it is up, where it leads to the same host,
        or to the far end itself: phones can't prove themselves as servers (RFC 5923 §3, RFC 5626)."""
        try:
            uri = dialog.next_hop()
        except ParseError:
            return dialog.flow
        flow = dialog.flow
        if flow.secure and (uri.host == flow.remote_host or not dialog.route_set) and self.connected(flow):
            return flow
        return self.flow_to(uri, flow) or flow

    def flow_to(self, uri: Uri, near: Flow | None = None) -> Flow | None:
        """A flow to the host of ``uri``, from the local side of ``near`` if it fits, else from the first endpoint that
        does; None for host names and where no endpoint fits."""
        version = ip_version(uri.host)
        transport = uri.transport or (near.transport if near else "udp")
        if version == 0:
            return None
        port = uri.port or default_port(transport)
        if near is not None and near.transport == transport and ip_version(near.local_host) == version:
            return near.to(uri.host, port)
        for endpoint in self.endpoints:
            if endpoint.transport == transport and ip_version(endpoint.host) == version:
                return Flow(transport, endpoint.host, endpoint.port, uri.host, port)
        return None

    def remember(self, dialog: Dialog, session: InviteSession) -> None:
        """Requests within ``dialog`` go to ``session``."""
        if dialog.id not in self._dialogs:
            self._dialogs[dialog.id] = session
            self._of_session.setdefault(session, []).append(dialog.id)

    def session_of(self, request: Request) -> InviteSession | None:
        """The session that a request within a dialog belongs to (RFC 3261 §12.2.2)."""
        return self._dialogs.get((request.call_id, request.to.tag or "", request.from_.tag or ""))

    def forget(self, session: InviteSession) -> None:
        """Drop the dialogs of an ended session."""
        for identity in self._of_session.pop(session, ()):
            self._dialogs.pop(identity, None)
        invite = session.invite
        if session.is_server and invite is not None:
            self._initial.pop((invite.call_id, invite.from_.tag or "", invite.cseq[0]), None)

    @property
    def dialog_count(self) -> int:
        return len(self._dialogs)


def _accepts_sdp(request: Request) -> bool:
    """Whether our answer's SDP would be acceptable (§20.1: an empty or missing Accept says nothing against it)."""
    if request.get("accept") is None:
        return True
    kinds = {value.partition(";")[0].strip() for value in request.tokens("accept")} - {""}
    return not kinds or not kinds.isdisjoint(("application/sdp", "application/*", "*/*"))


_KNOWN = frozenset({"MESSAGE", "NOTIFY", "PRACK", "PUBLISH", "REFER", "SUBSCRIBE"})
