"""One call: the caller's leg (UAS) and the callee's leg (UAC), tied together (RFC 7092: a media-terminating B2BUA).

A state machine without I/O: it is driven by its two INVITE sessions, by timers and by ``CallHost``, which made it.
Signalling passes from leg to leg; SDP goes through ``MediaBridge``; capture starts at the answer, once the decision is
stored. Whatever fails in recording leaves the call as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.b2bua.announcing import AnnouncementRule, Announcing, Beep
from gateway.b2bua.control import CaptureControl
from gateway.b2bua.keys import ControlKeys
from gateway.b2bua.media_bridge import MediaBridge
from gateway.b2bua.routing import Router, Target, Trunk
from gateway.b2bua.termination import EndedBy, Kind, Termination, kind_of_status, status_for_caller
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.invite import ClientExchange, Headers, InviteSession, ServerExchange
from gateway.sip.message import Request, Response
from gateway.sip.sdp import SdpError
from gateway.sip.uri import Uri
from gateway.sip.user_agent import UserAgent
from media.engine import CaptureMode, Side


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds; 0 = no limit, where that makes sense."""

    no_answer: float = 60.0
    trunk_timeout: float = 5.0
    duration: float = 14400.0
    inactivity: float = 120.0


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What was found out about a call before its second leg was dialed."""

    call_id: str
    organization: str
    caller_side: Side
    targets: tuple[Target, ...]
    from_user: str
    """User part of From on the second leg."""
    from_display: str = ""
    to_user: str = ""
    headers: Headers = ()
    """Headers that may pass to the second leg."""
    tags: dict[str, object] = field(default_factory=dict)


ANNOUNCE_SECONDS = 2.0
"""How long announcements wait for the decision to be stored: who was called does not wait for a disk."""
INFO_TYPES = ("application/dtmf-relay", "application/dtmf")
"""What an INFO may carry from leg to leg: keys pressed."""


class CallHost(Protocol):
    """What a call needs from the table of calls."""

    agent: UserAgent
    router: Router
    limits: CallLimits
    passed: frozenset[str]
    keys: ControlKeys
    beep: Beep | None

    def clock(self) -> float:
        """Seconds, as timers and callbacks count them."""

    def later(self, work: Callable[[], None]) -> None:
        """Run ``work`` where the call runs; may be called from any thread."""

    def announcements(self, call: Call) -> Sequence[AnnouncementRule]:
        """What is to be played in this call when it is answered."""

    def prospect_key(self, call: Call, key: str, now: float, via: str) -> None:
        """The prospect pressed a key in an answered call."""

    def capture_may_start(self, call: Call, start: Callable[[bool], None]) -> None:
        """Call ``start(True)`` once the decision is stored, ``start(False)`` when it can't be."""

    def take_line(self, call: Call, trunk: Trunk) -> bool:
        """Take one of the trunk's lines for a call, in place of another trunk's; False when none is left."""

    def call_answered(self, call: Call) -> None:
        """Both legs are up."""

    def call_ended(self, call: Call, termination: Termination) -> None:
        """The call is over; its legs are closed or closing."""


class Call:
    """See the module. ``start`` dials; everything after comes through the session and timer callbacks."""

    def __init__(self, host: CallHost, caller: InviteSession) -> None:
        self.host = host
        self.caller = caller
        self.callee: InviteSession | None = None
        self.plan: CallPlan | None = None
        self.bridge: MediaBridge | None = None
        self.control: CaptureControl | None = None
        self.announcing: Announcing | None = None
        self._beeps = False
        self.termination: Termination | None = None
        self.answered = False
        self.trunk_name: str | None = None
        self.deadlines: dict[str, float] = {}
        self._targets: list[Target] = []
        self._target: Target | None = None
        self._late_offer = False
        self._last_failure = 480
        self._pending: dict[ClientExchange, ServerExchange] = {}
        self._awaiting_ack: dict[ServerExchange, ClientExchange] = {}
        caller.user = self

    # -- setting up --------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self.termination is not None

    def side_of(self, session: InviteSession) -> Side:
        assert self.plan is not None
        return self.plan.caller_side if session is self.caller else self.plan.caller_side.other

    def other(self, session: InviteSession) -> InviteSession | None:
        return self.callee if session is self.caller else self.caller

    def start(self, plan: CallPlan, bridge: MediaBridge, now: float) -> None:
        """Dial the first target. The caller's INVITE is ``self.caller.invite``."""
        self.plan, self.bridge = plan, bridge
        self.control = CaptureControl(plan.call_id, bridge.media, self.host.keys, self._prospect_key)
        bridge.media.listen(self.control.press_event)
        self._targets = list(plan.targets)
        if self.host.limits.no_answer:
            self._timer("no answer", now + self.host.limits.no_answer)
        self._dial_next(now)

    def _dial_next(self, now: float) -> None:
        """Dial the next target; when there is none left, the caller hears the last failure."""
        while self._targets:
            self._target = self._targets.pop(0)
            try:
                self._dial(self._target, now)
            except SdpError as error:
                self._fail(error.status, EndedBy.GATEWAY, now, str(error))
                return
            if self.callee is not None:
                return
        status = status_for_caller(self._last_failure)
        self._fail(status, self._far_end(self.callee), now, f"{self._last_failure} from the last target")

    def _dial(self, target: Target, now: float) -> None:
        assert self.plan is not None and self.bridge is not None and self.caller.invite is not None
        agent = self.host.agent
        flow = self._flow_to(target)
        self.callee = None
        if flow is None or (target.trunk is not None and not self.host.take_line(self, target.trunk)):
            self._last_failure = 503
            return
        invite = self.caller.invite
        self.bridge.restart(self.plan.caller_side.other)
        body = self.bridge.offer_from(self.plan.caller_side, invite.body) if invite.body else b""
        self._late_offer = not body
        session = agent.invite(self, flow, agent.token())
        if target.trunk is not None:
            self.trunk_name = target.trunk.name
            session.credentials = (target.trunk.username, target.trunk.password) if target.trunk.username else None
            self._timer("trunk", now + self.host.limits.trunk_timeout)
        self.callee = session
        session.start(self._invite(target, flow, session.local_tag, body), now)

    def _flow_to(self, target: Target) -> Flow | None:
        if target.flow is not None:
            return target.flow
        for endpoint in self.host.agent.endpoints:
            if endpoint.transport == target.transport and (":" in endpoint.host) == (":" in target.host):
                return Flow(target.transport, endpoint.host, endpoint.port, target.host, target.port)
        return None

    def _invite(self, target: Target, flow: Flow, local_tag: str, body: bytes) -> Request:
        """The INVITE of the second leg: nothing of the first leg but what the plan says (topology hiding)."""
        assert self.plan is not None and self.caller.invite is not None
        agent = self.host.agent
        ours = agent.sent_by(flow)
        display = f"{self.plan.from_display} " if self.plan.from_display else ""
        user = target.trunk.caller_id if target.trunk is not None and target.trunk.caller_id else self.plan.from_user
        secure = target.uri.startswith("sips:")
        scheme = "sips" if secure else "sip"
        identity = f"{scheme}:{user}@{ours}" if user else f"{scheme}:{ours}"
        headers = [
            ("max-forwards", str(self.caller.invite.max_forwards - 1)),
            ("from", f"{display}<{identity}>;tag={local_tag}"),
            ("to", f"<{Uri.parse(target.uri).with_params()}>"),
            ("call-id", agent.token()),
            ("cseq", "1 INVITE"),
            ("contact", agent.contact(flow, secure=secure)),
            ("allow", agent.allow),
            *self.plan.headers,
        ]
        if body:
            headers.append(("content-type", "application/sdp"))
        request = Request("INVITE", target.uri, headers, body)
        agent.sign(request)
        return request

    # -- timers ------------------------------------------------------------------------------------------------------

    def _timer(self, name: str, at: float) -> None:
        self.host.agent.timers.start(self, name, at)

    def _stop(self, *names: str) -> None:
        self.host.agent.timers.stop(self, *names)

    def on_timer(self, name: str, now: float) -> None:
        if name == "forget":
            self._forget()
        if self.ended:
            return
        if name == "trunk":
            self._trunk_silent(now)
        elif name == "no answer":
            self._cancel_callee(now)
            self._fail(408, EndedBy.GATEWAY, now, "not answered in time", Kind.NO_ANSWER)
        elif name == "duration":
            self.hang_up(Kind.TIME_LIMIT, now, "longest call duration reached")
        elif name == "inactivity":
            self._check_media(now)
        elif name == "announce" and self.announcing is not None:
            self.announcing.begin()
        elif name == "beep":
            self._beep()

    def _trunk_silent(self, now: float) -> None:
        """Nothing came back from the trunk: the next one. An answer that comes after all is ACKed and BYEd."""
        session = self.callee
        if session is None or session.heard:
            return
        if self._target is not None and self._target.trunk is not None:
            self.host.router.failed(self._target.trunk, now)
        session.user = None
        session.cancel(now)
        self._last_failure = 408
        self._dial_next(now)

    def _check_media(self, now: float) -> None:
        assert self.bridge is not None
        if self.bridge.inactive_seconds(now) >= self.host.limits.inactivity:
            self.hang_up(Kind.MEDIA_TIMEOUT, now, "no RTP from a leg that should send")
        else:
            self._timer("inactivity", now + min(5.0, self.host.limits.inactivity / 4))

    # -- the callee's answer -----------------------------------------------------------------------------------------

    def on_provisional(self, session: InviteSession, response: Response, now: float) -> None:
        """18x to the caller, with the media engine's SDP in place of the callee's (early media)."""
        if session is not self.callee or self.ended:
            return
        self._stop("trunk")
        body = self._early_answer(response) if response.body and not self._late_offer else b""
        status = response.status if response.status in (180, 181, 182, 183) else 183
        self.caller.provisional(status, now, body, self._passed_on(response))

    def _early_answer(self, response: Response) -> bytes:
        """The SDP of a 18x for the caller; b"" when it can't be used (the 200 will tell)."""
        assert self.bridge is not None and self.plan is not None
        side, fork = self.plan.caller_side.other, response.to.tag or ""
        try:
            return self.bridge.answer_from(side, sdp_of(response), fork=fork, final=False)
        except SdpError:
            return b""

    def on_answer(self, session: InviteSession, response: Response, now: float) -> None:
        """200 from the callee."""
        if session is not self.callee or self.ended:
            session.bye(now)
            return
        self._stop("trunk", "no answer")
        if self._target is not None and self._target.trunk is not None:
            self.host.router.worked(self._target.trunk)
        try:
            body = self._body_of_answer(response)
        except SdpError as error:
            session.bye(now)
            self._fail(500, EndedBy.GATEWAY, now, f"unusable SDP in the answer: {error}")
            return
        if not self._late_offer:
            session.ack(now)
        assert self.bridge is not None and self.plan is not None
        rules = self.host.announcements(self)
        self.announcing = Announcing(self.plan.call_id, self.bridge, rules, self.host, self._beep)
        self.caller.answer(now, body, self._passed_on(response))
        self._up(now)

    def _body_of_answer(self, response: Response) -> bytes:
        """What our 200 to the caller carries: the answer, or the callee's offer when the caller made none."""
        assert self.bridge is not None and self.plan is not None
        side, body = self.plan.caller_side.other, sdp_of(response)
        if not self._late_offer:
            return self.bridge.answer_from(side, body, fork=response.to.tag or "")
        if not body:
            raise SdpError("no offer in the 200 to an INVITE without one")
        return self.bridge.offer_from(side, body)

    def _up(self, now: float) -> None:
        self.answered = True
        limits = self.host.limits
        if limits.duration:
            self._timer("duration", now + limits.duration)
        if limits.inactivity:
            self._timer("inactivity", now + min(5.0, limits.inactivity / 4))
        self.host.call_answered(self)
        self._timer("announce", now + ANNOUNCE_SECONDS)
        self.host.capture_may_start(self, self._start_capture)

    def _start_capture(self, stored: bool) -> None:
        """The one place where capture begins: after the answer, with the decision stored."""
        if self.ended or self.bridge is None:
            return
        if not stored:
            self.bridge.media.narrow(CaptureMode.NONE, "the decision could not be stored")
        self.bridge.media.start_capture()
        dialog = self.callee.dialog if self.callee is not None else None
        if dialog is not None:  # the other leg's identity, which nobody knew when the call was set up
            self.bridge.media.mark("answered", trunk=self.trunk_name, sip_call_id=dialog.call_id)
        if self.announcing is not None:
            self.announcing.begin()

    def _prospect_key(self, key: str, now: float, via: str) -> None:
        if self.answered and not self.ended:
            self.host.prospect_key(self, key, now, via)

    def _beep(self) -> None:
        """The recording beep, while something is captured, and again in its time."""
        beep, bridge = self.host.beep, self.bridge
        if beep is None or bridge is None or self.ended:
            return
        if not self._beeps:
            self._beeps = True
            legs = [side.name.lower() for side in beep.sides]
            bridge.media.mark("beep", legs=legs, sound=beep.sound.name, every_seconds=beep.seconds)
        if bridge.media.captured:
            for side in beep.sides:
                bridge.play(side, beep.sound)
        self._timer("beep", self.host.clock() + beep.seconds)

    def on_reject(self, session: InviteSession, status: int, response: Response | None, now: float) -> None:
        """The callee's leg failed: the next target where that makes sense, else the caller is told."""
        if session is not self.callee or self.ended:
            return
        self._stop("trunk")
        self._last_failure = status
        if self._try_another(status, session, now):
            self._dial_next(now)
            return
        by = self._far_end(session) if response is not None else EndedBy.GATEWAY
        headers = self._passed_on(response) if response is not None else ()
        self._fail(status_for_caller(status), by, now, f"{status} from the callee", headers=headers)

    def _try_another(self, status: int, session: InviteSession, now: float) -> bool:
        """Failover: 503, or 408 before anything was heard; for an agent's contacts whatever is not a refusal."""
        target = self._target
        unheard = status == 408 and not session.heard
        if target is not None and target.trunk is not None:
            if status == 503 or unheard:
                self.host.router.failed(target.trunk, now)
                return bool(self._targets)
            return False
        return bool(self._targets) and (status in (404, 408, 410, 480) or 500 <= status < 600)

    def _far_end(self, session: InviteSession | None) -> EndedBy:
        if self.plan is None or session is None:
            return EndedBy.GATEWAY
        return EndedBy.AGENT if self.side_of(session) is Side.AGENT else EndedBy.PROSPECT

    def _passed_on(self, message: Request | Response) -> Headers:
        return tuple((key, value) for key, value in message.headers if key in self.host.passed)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _fail(
        self, status: int, by: EndedBy, now: float, detail: str, kind: Kind | None = None, headers: Headers = ()
    ) -> None:
        """No call came about: the caller hears ``status``."""
        self.caller.reject(status, now, headers)
        self._finish(Termination(kind or kind_of_status(status), by, status, detail), now)

    def refuse(self, error: SipError, now: float) -> None:
        """Reject the caller before a second leg was dialed."""
        if not self.ended:
            self.caller.reject(error.status, now, error.headers, error.reason)
            kind = kind_of_status(error.status)
            self._finish(Termination(kind, EndedBy.GATEWAY, error.status, error.reason), now)

    def _cancel_callee(self, now: float) -> None:
        if self.callee is not None:
            self.callee.cancel(now)

    def on_cancel(self, session: InviteSession, now: float) -> None:
        """The caller gave up; its INVITE has had its 487."""
        if self.ended:
            return
        self._cancel_callee(now)
        self._finish(Termination(Kind.CANCELLED, self._far_end(session), 487, "cancelled by the caller"), now)

    def on_bye(self, session: InviteSession, now: float) -> None:
        other = self.other(session)
        if self.ended:
            return
        if other is not None:
            other.bye(now)
        kind = Kind.COMPLETED if self.answered else Kind.CANCELLED
        self._finish(Termination(kind, self._far_end(session), 200 if self.answered else 487), now)

    def on_lost(self, session: InviteSession, status: int, now: float) -> None:
        """One leg does not answer any more: the other is hung up."""
        if self.ended:
            return
        other = self.other(session)
        if other is not None:
            other.bye(now)
        detail = f"{status} within the dialog"
        self._finish(Termination(Kind.LOST, self._far_end(session), 200 if self.answered else status, detail), now)

    def hang_up(self, kind: Kind, now: float, detail: str = "") -> None:
        """End the call from our side, on both legs, whatever its state."""
        if self.ended:
            return
        if not self.answered:
            self._cancel_callee(now)
            self.caller.reject(503 if kind is Kind.SHUTDOWN else 480, now)
        else:
            reason = (("reason", f'SIP;cause=200;text="{kind}"'),)
            for session in (self.caller, self.callee):
                if session is not None:
                    session.bye(now, reason)
        self._finish(Termination(kind, EndedBy.GATEWAY, 200 if self.answered else 480, detail), now)

    def _finish(self, termination: Termination, now: float) -> None:
        self.termination = termination
        self._stop()
        for exchange in self._pending.values():
            exchange.respond(487, now)
        self._pending.clear()
        self._awaiting_ack.clear()
        if self.announcing is not None:
            self.announcing.stop()
        self.host.call_ended(self, termination)
        self.bridge = self.control = self.announcing = None
        self._timer("forget", now + 70 * self.host.agent.t1)

    def _forget(self) -> None:
        """Every transaction is over: let go of the legs, which refer to the call, so that nothing waits for the garbage
        collector."""
        for session in (self.caller, self.callee):
            if session is not None:
                session.release()

    # -- within the call ---------------------------------------------------------------------------------------------

    def on_offer(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        """A re-INVITE or UPDATE of one leg: relayed to the other, unless it only refreshes (RFC 4028 §7.4)."""
        other, bridge = self.other(session), self.bridge
        if self.ended or other is None or bridge is None or self.plan is None:
            exchange.respond(481, now)
            return
        body, side = exchange.request.body, self.side_of(session)
        if exchange.method == "UPDATE" and not body:
            exchange.respond(200, now)
        elif body and bridge.is_refresh(side, body):
            exchange.respond(200, now, bridge.repeat_for(side) or b"")
        elif other.busy:
            exchange.respond(491, now)
        else:
            self._relay_offer(session, other, exchange, now)

    def _relay_offer(self, session: InviteSession, other: InviteSession, exchange: ServerExchange, now: float) -> None:
        assert self.bridge is not None
        body = exchange.request.body
        try:
            offer = self.bridge.offer_from(self.side_of(session), body) if body else b""
        except SdpError as error:
            exchange.respond(error.status, now)
            return
        method = exchange.method if other.allows(exchange.method) else "INVITE"
        asked = other.send_offer(method, now, offer, self._passed_on(exchange.request))
        self._pending[asked] = exchange

    def on_info(self, session: InviteSession, exchange: ServerExchange, now: float) -> None:
        """DTMF in an INFO passes to the other leg; no other INFO package does (RFC 6086 §4.2.2: 415 says which)."""
        other, request = self.other(session), exchange.request
        if self.ended or other is None or other.dialog is None:
            exchange.respond(481, now)
        elif self.control is not None and self.control.take_info(self.side_of(session), request, now):
            exchange.respond(200, now)
        elif request.content_type not in INFO_TYPES or len(request.body) > 1024:
            exchange.respond(415, now, headers=(("accept", ", ".join(INFO_TYPES)),))
        else:
            self._pending[other.send_info(request.content_type, request.body, now)] = exchange

    def on_exchange(self, session: InviteSession, exchange: ClientExchange, now: float) -> None:
        """The other leg's final response to what was relayed to it."""
        asked = self._pending.pop(exchange, None)
        success = 200 <= exchange.status < 300
        if asked is None or self.bridge is None:
            if success and exchange.method == "INVITE":
                exchange.ack(now)
            return
        if exchange.method == "INFO":
            asked.respond(exchange.status, now)
            return
        if not success:
            self.bridge.rollback()
            status = exchange.status if exchange.status not in (401, 407) else 403
            asked.respond(status, now)
            return
        self._relay_success(session, exchange, asked, now)

    def _relay_success(
        self, session: InviteSession, exchange: ClientExchange, asked: ServerExchange, now: float
    ) -> None:
        assert self.bridge is not None and exchange.response is not None
        side, body = self.side_of(session), sdp_of(exchange.response)
        late = not asked.request.body
        try:
            relayed = self.bridge.offer_from(side, body) if late else self.bridge.answer_from(side, body)
        except SdpError:
            if exchange.method == "INVITE":
                exchange.ack(now)
            self.bridge.rollback()
            asked.respond(488, now)
            return
        if exchange.method == "INVITE" and not late:
            exchange.ack(now)
        if late:
            self._awaiting_ack[asked] = exchange
        asked.respond(200, now, relayed)

    def on_ack(self, session: InviteSession, request: Request, exchange: ServerExchange | None, now: float) -> None:
        """The ACK of our 2xx: it carries the answer where the offer went out in the 2xx (RFC 3264 §4, late offer)."""
        if self.ended or self.bridge is None:
            return
        if exchange is None and self._late_offer and self.callee is not None:
            self._relay_late_answer(session, request, self.callee.ack, now)
        elif exchange is not None and (asked := self._awaiting_ack.pop(exchange, None)) is not None:
            self._relay_late_answer(session, request, asked.ack, now)

    def _relay_late_answer(
        self, session: InviteSession, request: Request, ack: Callable[[float, bytes], None], now: float
    ) -> None:
        assert self.bridge is not None
        try:
            if not request.body:
                raise SdpError("no answer in the ACK")
            answer = self.bridge.answer_from(self.side_of(session), request.body)
        except SdpError as error:
            ack(now, self.bridge.refuse_offer_of(self.side_of(session).other))
            self.hang_up(Kind.FAILED, now, str(error))
            return
        ack(now, answer)
        if self.announcing is not None:
            self.announcing.begin()


def sdp_of(message: Request | Response) -> bytes:
    """The session description in a message; b"" when its body is something else."""
    return message.body if message.content_type in ("application/sdp", "") else b""
