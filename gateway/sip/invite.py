"""INVITE sessions (RFC 3261 §13, §14, §15; RFC 3311 UPDATE): one call leg from its first INVITE to its BYE.

A session hides what every leg must do whoever uses it: 2xx retransmission until the ACK and ACK retransmission for
every 2xx, CANCEL and its race with the 200, forks, glare, CSeq order. What an offer or answer says is not looked at.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from gateway.sip.dialog import Dialog
from gateway.sip.digest import authorization_for, is_stale
from gateway.sip.errors import ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Message, Request, Response
from gateway.sip.transaction import ClientTransaction, ServerTransaction, State

if TYPE_CHECKING:
    from gateway.sip.user_agent import UserAgent

Headers = tuple[tuple[str, str], ...]


class SessionState(Enum):
    """Where the initial INVITE stands."""

    PENDING = auto()
    """No final response yet."""
    ANSWERED = auto()
    """2xx sent or received; as UAS its ACK has not come, as UAC it has not been ACKed."""
    CONFIRMED = auto()
    TERMINATED = auto()


class SessionUser(Protocol):
    """What uses a session: the call logic. ``session`` tells which leg."""

    def on_provisional(self, session: InviteSession, response: Response, now: float) -> None:
        """UAC: 101..199."""

    def on_answer(self, session: InviteSession, response: Response, now: float) -> None:
        """UAC: the first 2xx; ``session.ack`` is due."""

    def on_reject(self, session: InviteSession, status: int, response: Response | None, now: float) -> None:
        """UAC: no call; the final response, or 408/503 of our own."""

    def on_ack(self, session: InviteSession, request: Request, exchange: ServerExchange | None, now: float) -> None:
        """UAS: the ACK of our 2xx, to the initial INVITE (``exchange`` None) or to a re-INVITE."""

    def on_cancel(self, session: InviteSession, now: float) -> None:
        """UAS: cancelled; 487 has been sent."""

    def on_bye(self, session: InviteSession, now: float) -> None:
        """The far end hung up; its BYE has been answered."""

    def on_lost(self, session: InviteSession, status: int, now: float) -> None:
        """The dialog is gone: 408 no ACK or no answer to a request in it, 481 the far end does not know it."""

    def on_offer(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        """A re-INVITE or UPDATE; ``exchange.respond`` is due."""

    def on_info(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        """An INFO (RFC 6086); ``exchange.respond`` is due."""

    def on_exchange(self, session: InviteSession, exchange: ClientExchange, now: float) -> None:
        """The final response (``exchange.response``, None for 408/503 of our own) to our re-INVITE, UPDATE or INFO."""


class ServerExchange:
    """A re-INVITE, UPDATE or INFO that came from the far end."""

    __slots__ = ("_session", "_transaction", "acked", "deadlines", "interval", "request", "sent")

    def __init__(self, session: InviteSession, transaction: ServerTransaction) -> None:
        self._session = session
        self._transaction = transaction
        self.request = transaction.request
        self.acked = False
        self.sent: Response | None = None
        self.deadlines: dict[str, float] = {}
        self.interval = 0.0

    @property
    def method(self) -> str:
        return self.request.method

    def respond(self, status: int, now: float, body: bytes = b"", headers: Headers = ()) -> None:
        """Answer it; a 2xx to a re-INVITE is repeated until its ACK comes."""
        if self.sent is not None:
            return
        session = self._session
        response = session.build_response(self.request, status, body, headers)
        if status >= 200:
            self.sent = response
            session.server_exchange_done(self, status)
        self._transaction.respond(response, now)
        if self.method == "INVITE" and 200 <= status < 300:
            session.repeat_until_ack(self, now)

    def on_timer(self, name: str, now: float) -> None:
        self._session.on_repeat_timer(self, name, now)

    def retransmit(self, now: float) -> None:
        if self.sent is not None:
            self._transaction.respond(self.sent, now)


class ClientExchange:
    """A re-INVITE, UPDATE or INFO of ours."""

    __slots__ = ("_session", "ack_sent", "method", "response", "status", "tag", "transaction", "tried")

    def __init__(self, session: InviteSession, method: str) -> None:
        self._session = session
        self.method = method
        self.transaction: ClientTransaction | None = None
        self.response: Response | None = None
        self.status = 0
        self.ack_sent: tuple[Flow, bytes] | None = None
        self.tried = False
        self.tag: object = None
        """Whatever the session's user hangs here."""

    def ack(self, now: float, body: bytes = b"") -> None:
        """ACK the 2xx of a re-INVITE; repeated 2xx are then ACKed by the session."""
        assert self.transaction is not None
        self.ack_sent = self._session.send_ack(self.transaction.request.cseq[0], body)
        self._session.client_exchange_done(self)


class InviteSession:
    """One leg. Made by ``UserAgent`` (UAS) or ``UserAgent.invite`` (UAC)."""

    def __init__(self, agent: UserAgent, user: SessionUser | None, flow: Flow, *, local_tag: str, server: bool) -> None:
        self.agent = agent
        self.user = user
        self.flow = flow
        self.is_server = server
        self.local_tag = local_tag
        self.state = SessionState.PENDING
        self.dialog: Dialog | None = None
        self.invite: Request | None = None
        self.credentials: tuple[str, str] | None = None
        """User name and password for a challenge of the far end."""
        self.deadlines: dict[str, float] = {}
        self.interval = 0.0
        self.server_transaction: ServerTransaction | None = None
        self.client_transaction: ClientTransaction | None = None
        self._early: dict[str, Dialog] = {}
        self._cancelled = False
        self._cancel_sent = False
        self._challenged = 0
        self._answer: Response | None = None
        self._acks: dict[str, tuple[Flow, bytes]] = {}
        self._bye_wanted: Headers | None = None
        self._offered: ServerExchange | None = None
        self._unacked: ServerExchange | None = None
        self._asked: ClientExchange | None = None
        self._peer_allow: frozenset[str] = frozenset()

    # -- shared ------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """An exchange is under way that a new one would collide with (RFC 3261 §14, RFC 3311 §5.2)."""
        return any(x is not None for x in (self._offered, self._unacked, self._asked)) or (
            self.state is not SessionState.CONFIRMED
        )

    @property
    def secure(self) -> bool:
        """The leg came about by a SIPS URI."""
        return self.flow.secure and self.invite is not None and self.invite.uri[:5].lower() == "sips:"

    @property
    def terminated(self) -> bool:
        return self.state is SessionState.TERMINATED

    @property
    def heard(self) -> bool:
        """UAC: any response to the INVITE has come, 100 included."""
        transaction = self.client_transaction
        return transaction is not None and transaction.state not in (State.CALLING, State.TERMINATED)

    def allows(self, method: str) -> bool:
        """Whether the far end has said that it takes ``method``; INVITE goes without saying."""
        return method == "INVITE" or method.lower() in self._peer_allow

    def learn(self, message: Message) -> None:
        """Take note of the far end's Allow."""
        try:
            self._peer_allow = frozenset(message.tokens("allow")) or self._peer_allow
        except ParseError:
            return

    def build_response(self, request: Request, status: int, body: bytes = b"", headers: Headers = ()) -> Response:
        """A response of this leg: our To tag, our Contact, Record-Route where a dialog is made (§12.1.1)."""
        response = request.response(status, to_tag=self.local_tag)
        if 100 < status < 300 and request.method in ("INVITE", "UPDATE"):
            response.headers += [("record-route", value) for value in request.all("record-route")]
            response.headers.append(("contact", self.agent.contact(self.flow, secure=self.secure)))
            response.headers.append(("allow", self.agent.allow))
        self.agent.sign(response)
        response.headers += headers
        if body:
            response.headers.append(("content-type", "application/sdp"))
            response.body = body
        return response

    def bye(self, now: float, headers: Headers = ()) -> None:
        """Hang up whatever the state: BYE, CANCEL or a 4xx; a BYE waits for the ACK of our 2xx (RFC 3261 §15)."""
        if self.state is SessionState.PENDING:
            if self.is_server:
                self.reject(480, now, headers)
            else:
                self.cancel(now)
        elif self.state is SessionState.ANSWERED and self.is_server:
            self._bye_wanted = headers
        elif self.state is not SessionState.TERMINATED:
            self._send_bye(now, headers)

    def _send_bye(self, now: float, headers: Headers = ()) -> None:
        assert self.dialog is not None
        if self.state is SessionState.ANSWERED and not self.is_server and self.dialog.remote_tag not in self._acks:
            self.ack(now)
        self._end()
        self._bye_in(self.dialog, now, headers)

    def _bye_in(self, dialog: Dialog, now: float, headers: Headers = ()) -> None:
        request = dialog.request("BYE")
        request.headers += headers
        self.agent.send_in_dialog(self, dialog, request, now)

    def _end(self) -> None:
        self.state = SessionState.TERMINATED
        self.agent.timers.stop(self)
        if self._unacked is not None:
            self.agent.timers.stop(self._unacked)

    def forget(self) -> None:
        """Let the user agent forget the dialogs of this leg."""
        self.agent.forget(self)

    def release(self) -> None:
        """Let go of user and transactions, once everything is over (64*T1 after the end)."""
        self.user = None
        self.server_transaction = self.client_transaction = None
        self._offered = self._unacked = self._asked = None

    def send_ack(self, cseq: int, body: bytes = b"", dialog: Dialog | None = None) -> tuple[Flow, bytes]:
        """Send the ACK of a 2xx (RFC 3261 §13.2.2.4): a request of its own, in the dialog's route."""
        dialog = dialog or self.dialog
        assert dialog is not None
        request = dialog.request("ACK", cseq=cseq)
        if body:
            request.headers.append(("content-type", "application/sdp"))
            request.body = body
        return self.agent.send_ack(dialog, request)

    # -- UAC ---------------------------------------------------------------------------------------------------------

    def start(self, request: Request, now: float) -> None:
        """Send the initial INVITE."""
        self.invite = request
        self.client_transaction = self.agent.send_request(request, self.flow, self, now)

    def cancel(self, now: float) -> None:
        """Give up before the answer (§9.1): the CANCEL waits for a 1xx; a 2xx that wins is ACKed and BYEd."""
        self._cancelled = True
        transaction = self.client_transaction
        if transaction is not None and transaction.state is State.PROCEEDING and not self._cancel_sent:
            self._send_cancel(transaction, now)

    def _send_cancel(self, transaction: ClientTransaction, now: float) -> None:
        self._cancel_sent = True
        invite = transaction.request
        kept = [(k, v) for k, v in invite.headers if k in ("route", "from", "to", "call-id", "max-forwards")]
        cancel = Request("CANCEL", invite.uri, [*kept, ("cseq", f"{invite.cseq[0]} CANCEL")])
        self.agent.send_cancel(cancel, transaction, now)
        self.agent.timers.start(self, "cancelled", now + 64 * self.agent.t1)

    def ack(self, now: float, body: bytes = b"") -> None:
        """ACK the 2xx of the initial INVITE, with the answer if the offer came in the 2xx."""
        assert self.dialog is not None and self.invite is not None
        self.state = SessionState.CONFIRMED if self.state is SessionState.ANSWERED else self.state
        self._acks[self.dialog.remote_tag] = self.send_ack(self.invite.cseq[0], body)

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A response to one of this leg's requests."""
        exchange = transaction.context
        if isinstance(exchange, ClientExchange):
            self._exchange_response(exchange, response, now)
        elif transaction is self.client_transaction:
            self._invite_response(response, now)
        elif transaction.request.method == "BYE" and response.status >= 200:
            self._bye_done(transaction, response, now)

    def _invite_response(self, response: Response, now: float) -> None:
        self.learn(response)
        if response.status < 200:
            self._provisional(response, now)
        elif response.status < 300:
            self._success(response, now)
        elif not self._answer_challenge(response, now):
            self._rejected(response.status, response, now)

    def _provisional(self, response: Response, now: float) -> None:
        if self._cancelled:
            self.cancel(now)
        elif response.status > 100 and self.user is not None:
            tag = response.to.tag
            if tag and tag not in self._early and len(self._early) < 32:
                self._early_dialog(tag, response)
            self.user.on_provisional(self, response, now)

    def _early_dialog(self, tag: str, response: Response) -> None:
        assert self.invite is not None
        try:
            dialog = Dialog.of_client(self.invite, response, self.flow)
        except ParseError:
            return
        self._early[tag] = dialog
        self.agent.remember(dialog, self)

    def _success(self, response: Response, now: float) -> None:
        tag = response.to.tag or ""
        if tag in self._acks:
            self.agent.transmit(*self._acks[tag])
        elif self.dialog is not None and self.dialog.remote_tag == tag:
            return  # repeated before the user gave its ACK
        elif self._cancelled or self.dialog is not None or self.terminated:
            self._refuse_fork(tag, response, now)
        else:
            self._confirm(response, now)

    def _confirm(self, response: Response, now: float) -> None:
        assert self.invite is not None
        try:
            self.dialog = Dialog.of_client(self.invite, response, self.flow)
        except ParseError:
            self._rejected(502, None, now)  # it can't be ACKed; the far end gives up after 64*T1
            return
        self.agent.timers.stop(self)
        self.agent.remember(self.dialog, self)
        self.state = SessionState.ANSWERED
        if self.user is not None:
            self.user.on_answer(self, response, now)
        else:
            self.bye(now)

    def _refuse_fork(self, tag: str, response: Response, now: float) -> None:
        """A 2xx that nobody wants: ACK, then BYE (§13.2.2.4)."""
        assert self.invite is not None
        try:
            dialog = Dialog.of_client(self.invite, response, self.flow)
        except ParseError:
            if self.dialog is None and not self.terminated:
                self._rejected(487, None, now)
            return
        self._acks[tag] = self.send_ack(self.invite.cseq[0], dialog=dialog)
        self._bye_in(dialog, now)
        if self.dialog is None and not self.terminated:
            self._rejected(487, None, now)

    def _answer_challenge(self, response: Response, now: float) -> bool:
        """Repeat the INVITE with credentials (§22.2); False when there is nothing to answer with."""
        if response.status not in (401, 407) or self.credentials is None or self._cancelled:
            return False
        if self._challenged and (self._challenged > 2 or not is_stale(response)):
            return False  # the password is wrong
        assert self.invite is not None
        again = self._authorized(self.invite, response)
        if again is None:
            return False
        self._challenged += 1
        self.start(again, now)
        return True

    def _authorized(self, request: Request, response: Response) -> Request | None:
        """``request`` once more with CSeq + 1 and an answer to the challenge; None when it can't be answered."""
        name, answer = ("www-authenticate", "authorization") if response.status == 401 else (
            "proxy-authenticate", "proxy-authorization")  # fmt: skip
        username, password = self.credentials or ("", "")
        value = authorization_for(
            response.all(name), request.method, request.uri, username, password, cnonce=self.agent.token()
        )
        if value is None:
            return None
        number = request.cseq[0] + 1
        headers = [(k, v) for k, v in request.headers if k not in ("via", "cseq", answer)]
        headers += [("cseq", f"{number} {request.method}"), (answer, value)]
        if self.dialog is not None:
            self.dialog.local_cseq = max(self.dialog.local_cseq, number)
        return Request(request.method, request.uri, headers, request.body)

    def _rejected(self, status: int, response: Response | None, now: float) -> None:
        self._end()
        if self.user is not None:
            self.user.on_reject(self, status, response, now)
        if not self._acks:
            self.forget()

    def receive_failure(self, transaction: ClientTransaction, status: int, now: float) -> None:
        """No final response to one of this leg's requests: 408 or 503."""
        exchange = transaction.context
        if isinstance(exchange, ClientExchange):
            self._exchange_done(exchange, None, status, now)
        elif transaction is self.client_transaction and not self.terminated:
            self._rejected(status, None, now)
        elif transaction.request.method == "BYE":
            self.forget()

    def _bye_done(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if response.status in (401, 407) and self.credentials is not None and transaction.context != "retried":
            again = self._authorized(transaction.request, response)
            if again is not None:
                self.agent.send_request(again, transaction.flow, self, now, "retried")
                return
        self.forget()

    # -- UAS ---------------------------------------------------------------------------------------------------------

    def provisional(self, status: int, now: float, body: bytes = b"", headers: Headers = ()) -> None:
        """Send 101..199 to the initial INVITE."""
        transaction = self.server_transaction
        if transaction is None or self.state is not SessionState.PENDING:
            return
        transaction.respond(self.build_response(transaction.request, status, body, headers), now)

    def answer(self, now: float, body: bytes = b"", headers: Headers = (), status: int = 200) -> None:
        """Send the 2xx, and repeat it until its ACK comes (§13.3.1.4)."""
        transaction = self.server_transaction
        if transaction is None or self.state is not SessionState.PENDING:
            return
        self.state = SessionState.ANSWERED
        self._answer = self.build_response(transaction.request, status, body, headers)
        transaction.respond(self._answer, now)
        self.repeat_until_ack(self, now)

    def reject(self, status: int, now: float, headers: Headers = (), reason: str = "") -> None:
        """Send a final 3xx..6xx to the initial INVITE."""
        transaction = self.server_transaction
        if transaction is None or self.state is not SessionState.PENDING:
            return
        self._end()
        response = self.build_response(transaction.request, status, b"", headers)
        response.reason = reason or response.reason
        transaction.respond(response, now)
        self.forget()

    def cancelled_by_peer(self, now: float) -> None:
        """CANCEL matched our INVITE transaction (§9.2): no effect once a final response was sent."""
        if self.state is not SessionState.PENDING:
            return
        self.reject(487, now)
        if self.user is not None:
            self.user.on_cancel(self, now)

    def repeat_until_ack(self, what: InviteSession | ServerExchange, now: float) -> None:
        """2xx of INVITE: T1 doubling to T2, for 64*T1, on any transport (§13.3.1.4)."""
        what.interval = self.agent.t1
        self.agent.timers.start(what, "repeat", now + what.interval)
        self.agent.timers.start(what, "no ack", now + 64 * self.agent.t1)

    def on_timer(self, name: str, now: float) -> None:
        if name == "cancelled":
            self._cancel_unanswered(now)
        else:
            self.on_repeat_timer(self, name, now)

    def _cancel_unanswered(self, now: float) -> None:
        """No final response 64*T1 after our CANCEL: as if it had been a 487 (§9.1)."""
        if self.client_transaction is not None:
            self.agent.layer.forget(self.client_transaction)
        if not self.terminated:
            self._rejected(487, None, now)

    def on_repeat_timer(self, what: InviteSession | ServerExchange, name: str, now: float) -> None:
        if name == "repeat":
            what.retransmit(now)
            what.interval = min(what.interval * 2, self.agent.t2)
            self.agent.timers.start(what, "repeat", now + what.interval)
            return
        # Never ACKed: the dialog is confirmed, but is given up with a BYE (§13.3.1.4)
        if self.dialog is not None and not self.terminated:
            self._send_bye(now)
            if self.user is not None:
                self.user.on_lost(self, 408, now)

    def retransmit(self, now: float) -> None:
        """Repeat our 2xx."""
        if self.server_transaction is not None and self._answer is not None:
            self.server_transaction.respond(self._answer, now)

    def receive_ack(self, request: Request, now: float) -> None:
        """An ACK within the dialog: it ends the repetition of the 2xx with the same CSeq."""
        number = request.cseq[0]
        exchange = self._unacked
        if self.is_server and self.state is SessionState.ANSWERED and self.invite is not None:
            if number == self.invite.cseq[0]:
                self._confirmed_by_ack(request, now)
        elif exchange is not None and number == exchange.request.cseq[0]:
            self.agent.timers.stop(exchange)
            exchange.acked = True
            self._unacked = None
            if self.user is not None and not self.terminated:
                self.user.on_ack(self, request, exchange, now)

    def _confirmed_by_ack(self, request: Request, now: float) -> None:
        self.agent.timers.stop(self)
        self.state = SessionState.CONFIRMED
        if self._bye_wanted is not None:
            self._send_bye(now, self._bye_wanted)
        elif self.user is not None:
            self.user.on_ack(self, request, None, now)

    # -- within the dialog -------------------------------------------------------------------------------------------

    def receive_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A request within the dialog; raises SipError for what it is to be refused with."""
        if request.method == "BYE":
            self._receive_bye(transaction, request, now)
        elif request.method in ("INVITE", "UPDATE"):
            self._receive_offer(transaction, request, now)
        elif request.method == "INFO":
            self._receive_info(transaction, request, now)
        else:
            raise SipError(405, headers=(("allow", self.agent.allow),))

    def _receive_bye(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        ours = self.dialog is not None and request.from_.tag == self.dialog.remote_tag
        if ours and self.dialog is not None:
            self.dialog.accept(request)
        transaction.respond(self.build_response(request, 200), now)
        if self.terminated or (not ours and self.dialog is not None):
            return  # crossed with our own, or an early dialog of a fork that lost
        self._close_pending(now)
        self._end()
        self.forget()
        if self.user is not None:
            self.user.on_bye(self, now)

    def _close_pending(self, now: float) -> None:
        """What is still unanswered when the far end hangs up gets 487 (§15.1.2)."""
        if self._offered is not None:
            self._offered.respond(487, now)
        if self.is_server and self.state is SessionState.PENDING and self.server_transaction is not None:
            self.server_transaction.respond(self.build_response(self.server_transaction.request, 487), now)

    def _receive_offer(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        if self.terminated or self.dialog is None:
            raise SipError(481)
        self.dialog.accept(request)
        if self._offered is not None or (self.is_server and self.state is SessionState.PENDING):
            raise SipError(500, headers=(("retry-after", str(self.agent.choose(0, 10))),))
        if self.busy:
            raise SipError(491)
        exchange = ServerExchange(self, transaction)
        self._offered = exchange
        self.learn(request)
        self.dialog.refresh_target(request)
        if self.user is not None:
            self.user.on_offer(self, exchange, now)

    def _receive_info(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        if self.terminated or self.dialog is None or self.user is None:
            raise SipError(481)
        self.dialog.accept(request)
        self.user.on_info(self, ServerExchange(self, transaction), now)

    def send_info(self, content_type: str, body: bytes, now: float, headers: Headers = ()) -> ClientExchange:
        """Send an INFO; it collides with nothing. The end comes through ``on_exchange``."""
        assert self.dialog is not None
        exchange = ClientExchange(self, "INFO")
        request = self.dialog.request("INFO")
        self.agent.sign(request)
        request.headers += [*headers, *([("content-type", content_type)] if content_type else [])]
        request.body = body
        exchange.transaction = self.agent.send_in_dialog(self, self.dialog, request, now, exchange)
        return exchange

    def server_exchange_done(self, exchange: ServerExchange, status: int) -> None:
        if self._offered is exchange:
            self._offered = None
        if exchange.method == "INVITE" and 200 <= status < 300:
            self._unacked = exchange

    def send_offer(self, method: str, now: float, body: bytes = b"", headers: Headers = ()) -> ClientExchange:
        """Send a re-INVITE or UPDATE; not while ``busy``. The end comes through ``on_exchange``."""
        assert self.dialog is not None and not self.busy
        exchange = ClientExchange(self, method)
        self._asked = exchange
        request = self.dialog.request(method)
        contact = self.agent.contact(self.flow, secure=self.secure)
        request.headers += [("contact", contact), ("allow", self.agent.allow), *headers]
        self.agent.sign(request)
        if body:
            request.headers.append(("content-type", "application/sdp"))
            request.body = body
        exchange.transaction = self.agent.send_in_dialog(self, self.dialog, request, now, exchange)
        return exchange

    def client_exchange_done(self, exchange: ClientExchange) -> None:
        """Answered, and ACKed where it takes an ACK: the next one may come."""
        if self._asked is exchange:
            self._asked = None

    def _exchange_response(self, exchange: ClientExchange, response: Response, now: float) -> None:
        if response.status < 200:
            return
        if exchange.response is not None:
            if exchange.ack_sent is not None:
                self.agent.transmit(*exchange.ack_sent)
            return
        if response.status in (401, 407) and self.credentials is not None and not exchange.tried:
            assert exchange.transaction is not None
            again = self._authorized(exchange.transaction.request, response)
            if again is not None:
                exchange.tried = True
                exchange.transaction = self.agent.send_request(again, exchange.transaction.flow, self, now, exchange)
                return
        self._exchange_done(exchange, response, response.status, now)

    def _exchange_done(self, exchange: ClientExchange, response: Response | None, status: int, now: float) -> None:
        exchange.response, exchange.status = response, status
        if exchange.method != "INVITE" or not 200 <= status < 300:
            self.client_exchange_done(exchange)
        if self.terminated:
            if exchange.method == "INVITE" and 200 <= status < 300:
                exchange.ack(now)
            return
        if response is not None and 200 <= status < 300 and self.dialog is not None and exchange.method != "INFO":
            self.dialog.refresh_target(response)
        if self.user is not None:
            self.user.on_exchange(self, exchange, now)
        if status in (408, 481) and not self.terminated and self.user is not None:
            # the far end has lost the dialog (§12.2.1.2)
            self._send_bye(now)
            self.user.on_lost(self, status, now)
