"""The table of live calls: takes INVITEs and REGISTERs, finds out who and where, asks for the decision, keeps count.

This is the edge where call logic meets asyncio: what must be awaited (the store) is awaited here, in one task per
call; the calls themselves are driven by the user agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from gateway.b2bua.announcing import AnnouncementRule, Asked, Beep
from gateway.b2bua.authentication import Authenticator
from gateway.b2bua.call import Call, CallLimits, CallPlan
from gateway.b2bua.gate import ConsentGate, Gated
from gateway.b2bua.identity import Caller, Identifier, caller_user, dialed_user
from gateway.b2bua.keys import Control, ControlKeys
from gateway.b2bua.lines import Lines
from gateway.b2bua.media_bridge import MediaBridge
from gateway.b2bua.prospect import ProspectKeys
from gateway.b2bua.registrar import Registrar
from gateway.b2bua.routing import Router, Target, Trunk, peer_target
from gateway.b2bua.termination import EndedBy, Kind, Termination
from gateway.consent.asked import CONSENTED, may_widen
from gateway.guard.emergency import dials_one_of
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.invite import InviteSession
from gateway.sip.message import Request
from gateway.sip.offer_answer import address_families
from gateway.sip.sdp import SdpError
from gateway.sip.transaction import ServerTransaction
from gateway.sip.uri import Uri, display_quoted, escaped_user, ip_version
from gateway.sip.user_agent import UserAgent
from gateway.store.errors import StoreError, UnreadablePolicy
from gateway.store.records import CallEnded, CallStarted, RecordingStored
from gateway.store.store import Store
from media.engine import CaptureMode, MediaEngine, MediaError, RecordingRequest, RecordingResult, Side
from media.quality import SessionQuality

log = structlog.get_logger("calls")

EMERGENCY_RESERVE = 50
REVIEW_SECONDS = 0.4
"""How often it is looked whether somebody else changed what live calls were decided by."""


class CallMetrics(Protocol):
    """Where counts go."""

    def call_started(self) -> None: ...
    def call_ended(self, termination: Termination) -> None: ...
    def decided(self, mode: str, reason: str) -> None: ...
    def recorded(self, outcome: str) -> None: ...
    def quality(self, quality: SessionQuality) -> None: ...
    def malformed(self, flow: Flow, error: SipError) -> None: ...
    def exception(self, error: Exception) -> None: ...
    def limited(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call in progress. ``…_captured``: whether audio of that leg is being captured now."""

    call_id: str
    organization: str
    username: str
    direction: str
    prospect_number: str
    agent_number: str
    started_at: datetime
    answered_at: datetime | None
    mode: str | None
    reason: str | None
    agent_captured: bool
    prospect_captured: bool
    paused: bool = False
    """Capture is paused: it goes on, as far as the decision allows, when it is resumed."""


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What the table is told by the composition root."""

    max_calls: int
    media_hosts: tuple[str, ...]
    media_advertise: Mapping[str, str]
    headers_passed: frozenset[str]
    """Lower case."""
    recording_enabled: bool
    keys: ControlKeys = field(default_factory=ControlKeys)
    """What an agent presses to pause and to resume capture."""
    agent_calls: int = 0
    """How many calls one agent may have at once; 0: no limit."""
    emergency: frozenset[str] = frozenset()
    """Numbers whose calls pass whatever the limits, up to ``EMERGENCY_RESERVE`` more than ``max_calls``."""
    announcements: tuple[AnnouncementRule, ...] = ()
    beep: Beep | None = None
    opt_out_key: str = ""
    """What a prospect presses to be recorded no longer; "" is nothing."""
    opt_out_mode: str = "agent_only"


class CallTable:
    """The user agent's handler and the calls' host. Set ``agent`` and ``flush`` before anything is received."""

    agent: UserAgent

    def __init__(
        self,
        settings: CallSettings,
        limits: CallLimits,
        *,
        store: Store,
        gate: ConsentGate,
        media: MediaEngine,
        router: Router,
        authenticator: Authenticator,
        metrics: CallMetrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.passed = settings.headers_passed
        self.keys = settings.keys
        self.beep = settings.beep
        self.router = router
        self.registrar = Registrar()
        self.calls: dict[str, Call] = {}
        self.draining = False
        self.flush: Callable[[], None] = lambda: None
        self.proved: Callable[[Flow, float, float], None] = lambda flow, now, seconds: None
        """Told for how long a flow leads to a registered agent."""
        self._lines = Lines()
        self._emergencies: set[Call] = set()
        self._store = store
        self._gate = gate
        self._media = media
        self._authenticator = authenticator
        self._identifier = Identifier(store.directory, router, authenticator)
        self._metrics = metrics
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers: dict[Call, tuple[Caller, datetime]] = {}
        self._gated: dict[Call, Gated] = {}
        self._reviewed = -1
        self._answered_at: dict[Call, datetime] = {}
        self._recordings: set[Future[RecordingResult | None]] = set()
        self._prospects = ProspectKeys(gate, self, now, settings.opt_out_key, settings.opt_out_mode)
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- the user agent's handler ------------------------------------------------------------------------------------

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        if self.draining:
            raise SipError(503, headers=(("retry-after", "120"),))
        emergency = dials_one_of(request, self.settings.emergency)
        if len(self.calls) >= self.settings.max_calls + (EMERGENCY_RESERVE if emergency else 0):
            raise self._limited("max calls")
        sender = self.router.sender(session.flow)
        limit = 0 if emergency or sender is None else sender.max_calls
        if sender is not None and not self._lines.free(sender.line, limit):
            raise self._limited("peer calls")
        call = Call(self, session)
        if sender is not None:
            self._lines.take(call, "caller", sender.line, limit)
        if emergency:
            self._emergencies.add(call)
        call_id = f"{self._now():%Y%m%dT%H%M%S}-{self.agent.token()}"
        self.calls[call_id] = call
        self._idle.clear()
        self._spawn(self._set_up(call_id, call, request))

    def _limited(self, reason: str, status: int = 503) -> SipError:
        self._metrics.limited(reason)
        return SipError(status, headers=(("retry-after", "5"),) if status == 503 else ())

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        self._spawn(self._register(transaction, request))

    def on_malformed(self, flow: Flow, error: SipError) -> None:
        self._metrics.malformed(flow, error)

    def on_exception(self, error: Exception) -> None:
        self._metrics.exception(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()

    async def _register(self, transaction: ServerTransaction, request: Request) -> None:
        try:
            flow = transaction.flow
            credential = await self._authenticator.verify(request, 401, self._store.directory, flow)
            own = credential.agent.username
            if request.to.uri.username != own or request.from_.uri.username != own:
                raise SipError(403)  # nobody registers for somebody else
            now = self._clock()
            headers = self.registrar.register(own, request, flow, now)
            self.proved(flow, now, self.registrar.lifetime(own, flow, now))
            self.agent.respond(transaction, 200, now, headers)
        except SipError as error:
            self.agent.respond(transaction, error.status, self._clock(), error.headers, error.reason)
        except Exception as error:
            self._metrics.exception(error)
            self.agent.respond(transaction, 500, self._clock())
        self.flush()

    # -- setting a call up -------------------------------------------------------------------------------------------

    async def _set_up(self, call_id: str, call: Call, request: Request) -> None:
        try:
            await self._identify_and_dial(call_id, call, request)
        except (SipError, SdpError, MediaError) as error:
            self._refuse(call_id, call, error)
        except Exception as error:
            self._metrics.exception(error)
            self._refuse(call_id, call, SipError(500))
        self.flush()

    def _refuse(self, call_id: str, call: Call, error: Exception) -> None:
        if not isinstance(error, SipError):
            error = SipError(getattr(error, "sip_status", 500))
        call.refuse(error, self._clock())
        if call.plan is None:
            self._forget(call_id)

    async def _identify_and_dial(self, call_id: str, call: Call, request: Request) -> None:
        flow = call.caller.flow
        caller = await self._identifier.identify(request, flow)
        self._take_agent_line(call, caller)
        targets = await self._targets(caller, request)
        gated = await self._decide(call_id, caller) if self.settings.recording_enabled else None
        if call.ended:
            self._forget(call_id)
            return
        self._callers[call] = caller, self._now()
        self._store_start(call_id, caller, request)
        stored = self._gate.store(gated) if gated is not None else None
        if gated is not None and stored is not None:
            self._gated[call] = replace(gated, stored=stored)
            self._metrics.decided(gated.mode, gated.record.reason)
        plan = self._plan(call_id, caller, targets, request)
        bridge = self._bridge(plan, caller, gated, request, flow, targets[0])
        self._metrics.call_started()
        log.info("call", call_id=call_id, direction=caller.direction, agent=caller.agent.username,
                 mode=gated.mode if gated else "off", reason=gated.record.reason if gated else "")  # fmt: skip
        call.start(plan, bridge, self._clock())

    def _take_agent_line(self, call: Call, caller: Caller) -> None:
        if call.ended:
            return
        limit = 0 if call in self._emergencies else self.settings.agent_calls
        if not self._lines.take(call, "agent", f"agent {caller.agent.username}", limit):
            raise self._limited("agent calls", 503 if caller.direction == "outbound" else 486)

    async def _decide(self, call_id: str, caller: Caller) -> Gated:
        """By a policy that is still in force when the call is in the table: from then on ``review`` sees to it."""
        while True:
            generation = self._gate.generation
            gated = await self._gate.decide(call_id, caller, self._now())
            if self._gate.generation == generation:
                return gated

    async def _targets(self, caller: Caller, request: Request) -> tuple[Target, ...]:
        """Where the call goes: an agent's contacts, or the trunks. Raises SipError (480, 484, 503).

        A user name dialed by an agent means a colleague of the same organization, if there is one registered."""
        targets = await self._all_targets(caller, request)
        if not Uri.parse(request.uri).secure:
            return targets
        secured = tuple(target.secured() for target in targets if target.transport == "tls")
        if not secured:  # RFC 5630 §5.3: SIPS all the way or not at all
            raise SipError(480, headers=(("warning", f'380 {self.agent.software or "gateway"} "SIPS Not Allowed"'),))
        return secured

    async def _all_targets(self, caller: Caller, request: Request) -> tuple[Target, ...]:
        now = self._clock()
        if caller.direction == "inbound":
            targets = self._agent_targets(caller.agent.username, caller.agent.organization, now)
            if not targets:
                raise SipError(480)
            return tuple(targets)
        dialed = dialed_user(request)
        if not dialed:
            raise SipError(484)
        if contacts := self.registrar.contacts(dialed, now):
            colleague = await self._store.directory.agent(dialed)
            if colleague is not None and colleague.organization == caller.agent.organization:
                return tuple(contacts)
        if not (trunks := self.router.trunk_targets(dialed, now)):
            raise SipError(503)
        return tuple(trunks)

    def _agent_targets(self, username: str, organization: str, now: float) -> list[Target]:
        targets = self.registrar.contacts(username, now)
        for peer in self.router.peers:
            if peer.host and peer.organization == organization and peer.user in ("", username):
                targets.append(peer_target(peer, username))
        return targets

    def _plan(self, call_id: str, caller: Caller, targets: tuple[Target, ...], request: Request) -> CallPlan:
        inbound = caller.direction == "inbound"
        return CallPlan(
            call_id=call_id,
            organization=caller.agent.organization,
            caller_side=Side.PROSPECT if inbound else Side.AGENT,
            targets=targets,
            from_user=escaped_user(caller_user(request)),
            from_display=display_quoted(request.from_.display_name) if inbound else "",
            headers=tuple((key, value) for key, value in request.headers if key in self.passed),
        )

    def _bridge(
        self, plan: CallPlan, caller: Caller, gated: Gated | None, request: Request, flow: Flow, target: Target
    ) -> MediaBridge:
        """Open the media session. Raises MediaError."""
        offered = min(address_families(request.body), default=0) if request.body else 0
        caller_host = self._media_host(offered or ip_version(flow.local_host))
        callee_host = self._media_host(ip_version(target.host))
        inbound = plan.caller_side is Side.PROSPECT
        session = self._media.open(
            agent_host=callee_host if inbound else caller_host,
            prospect_host=caller_host if inbound else callee_host,
            capture=CaptureMode(gated.mode) if gated is not None else CaptureMode.NONE,
            recording=RecordingRequest(
                plan.organization,
                plan.call_id,
                decision=gated.record.answer if gated is not None else {},
                call=_identities(caller, request),
            ),
        )
        return MediaBridge(session, self.settings.media_advertise, self.agent.choose)

    def _media_host(self, version: int) -> str:
        """The media address of an IP family, else the first that there is."""
        hosts = self.settings.media_hosts
        return next((host for host in hosts if ip_version(host) == version), hosts[0])

    def _store_start(self, call_id: str, caller: Caller, request: Request) -> None:
        self._store.journal.call_started(
            CallStarted(
                call_id=call_id,
                organization=caller.agent.organization,
                user_id=caller.agent.user_id,
                direction=caller.direction,
                prospect_number=caller.prospect_number,
                agent_number=caller.agent_number,
                started_at=self._now(),
                sip_call_id=request.call_id,
            )
        )

    # -- the calls' host ---------------------------------------------------------------------------------------------

    def capture_may_start(self, call: Call, start: Callable[[bool], None]) -> None:
        gated = self._gated.get(call)
        if gated is None or gated.stored is None:
            return  # recording is off in the settings: no decision was asked, nothing is captured or filed
        gated.stored.add_done_callback(lambda done: start(not done.cancelled() and done.exception() is None))

    def take_line(self, call: Call, trunk: Trunk) -> bool:
        limit = 0 if call in self._emergencies else trunk.max_calls
        if self._lines.take(call, "trunk", trunk.line, limit):
            return True
        self._metrics.limited("trunk calls")
        return False

    def clock(self) -> float:
        return self._clock()

    def later(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self._metrics.exception(error)
            self.flush()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(run)

    def announcements(self, call: Call) -> tuple[AnnouncementRule, ...]:
        gated = self._gated.get(call)
        if gated is None or call.plan is None or call in self._emergencies:
            return ()
        organization, two_party = call.plan.organization, gated.prospect_two_party
        rules = self.settings.announcements
        reason = gated.record.reason
        return tuple(rule for rule in rules if rule.applies(organization, gated.mode, reason, two_party))

    def decision(self, call: Call) -> Gated | None:
        return self._gated.get(call)

    def decided_anew(self, call: Call, gated: Gated) -> None:
        if call in self._gated:
            self._gated[call] = gated
            self._metrics.decided(gated.mode, gated.record.reason)

    def prospect_key(self, call: Call, key: str, now: float, via: str) -> None:
        asked = call.announcing.asked if call.announcing is not None else None
        if self.settings.opt_out_key and key == self.settings.opt_out_key:
            self._prospects.opt_out(call)
        elif asked is not None and asked.consents(key, now):
            self._spawn(self._consent(call, asked, via))

    async def _consent(self, call: Call, asked: Asked, via: str) -> None:
        """What goes wrong widens nothing."""
        try:
            await self._prospects.consent(call, asked, via)
        except Exception as error:
            self._metrics.exception(error)

    def call_answered(self, call: Call) -> None:
        self._answered_at[call] = self._now()

    def call_ended(self, call: Call, termination: Termination) -> None:
        plan = call.plan
        self._lines.release(call)
        self._emergencies.discard(call)
        self._gated.pop(call, None)
        self._callers.pop(call, None)
        answered_at = self._answered_at.pop(call, None)
        if plan is None:
            return  # refused or cancelled while it was being set up; the set-up task forgets it
        self._metrics.call_ended(termination)
        self._store.journal.call_ended(
            CallEnded(
                call_id=plan.call_id,
                ended_at=self._now(),
                answered_at=answered_at,
                termination=str(termination.kind),
                sip_status=termination.sip_status,
                ended_by=str(termination.ended_by),
                detail=termination.detail,
                trunk=call.trunk_name,
                quality=self._quality(call) if answered_at is not None else None,
            )
        )
        if call.bridge is not None:
            self._close_media(call.bridge, termination)
        self._forget(plan.call_id)

    def _quality(self, call: Call) -> dict[str, Any] | None:
        if call.bridge is None:
            return None
        quality = call.bridge.media.quality()
        self._metrics.quality(quality)
        return quality.as_dict()

    def _forget(self, call_id: str) -> None:
        self.calls.pop(call_id, None)
        if not self.calls:
            self._idle.set()

    def _close_media(self, bridge: MediaBridge, termination: Termination) -> None:
        future = bridge.media.close(termination.as_dict())
        loop = asyncio.get_running_loop()
        self._recordings.add(future)

        def finished(done: Future[RecordingResult | None]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._recorded, done)

        future.add_done_callback(finished)

    def _recorded(self, done: Future[RecordingResult | None]) -> None:
        self._recordings.discard(done)
        try:
            result = done.result()
        except Exception as error:
            self._metrics.exception(error)
            return
        if result is not None:
            self._metrics.recorded(str(result.outcome))
            self._store.journal.recording_stored(recording_row(result, self._now()))

    def live(self, organization: str) -> list[LiveCall]:
        """The calls of an organization that are ringing or up, the newest first."""
        found = [
            self._live_call(call_id, call, *self._callers[call])
            for call_id, call in self.calls.items()
            if call in self._callers and self._callers[call][0].agent.organization == organization
        ]
        return sorted(found, key=lambda call: call.started_at, reverse=True)

    def _live_call(self, call_id: str, call: Call, caller: Caller, started_at: datetime) -> LiveCall:
        gated = self._gated.get(call)
        media = call.bridge.media if call.bridge is not None else None
        captured = media.captured if media is not None else frozenset()
        return LiveCall(
            call_id, caller.agent.organization, caller.agent.username, caller.direction, caller.prospect_number,
            caller.agent_number, started_at, self._answered_at.get(call), gated.mode if gated else None,
            gated.record.reason if gated else None, Side.AGENT in captured, Side.PROSPECT in captured,
            media is not None and media.paused,
        )  # fmt: skip

    def control_capture(self, organization: str, call_id: str, control: Control, by: str) -> LiveCall | None:
        """Pause or resume a live call's capture, for the user ``by``; the call as it is then, None: there is none."""
        call = self.calls.get(call_id)
        known = self._callers.get(call) if call is not None else None
        if call is None or known is None or known[0].agent.organization != organization or call.control is None:
            return None
        call.control.apply(control, via="api", by=by)
        return self._live_call(call_id, call, *known)

    # -- changes of policy -------------------------------------------------------------------------------------------

    async def review(self) -> None:
        """Decide live calls again if something was changed; where the answer is narrower, capture is, at once.

        While the store can't be read, calls stay as they were decided, and it is tried again."""
        await self._store.directory.refresh()
        generation = self._gate.generation
        if generation == self._reviewed:
            return
        try:
            for call, gated in tuple(self._gated.items()):
                if call.plan is not None and gated.mode != CaptureMode.NONE:
                    await self._review_one(call, gated, call.plan.organization)
        except StoreError as error:
            log.warning("live calls can't be reviewed", error=str(error))
        else:
            self._reviewed = generation

    async def _review_one(self, call: Call, gated: Gated, organization: str) -> None:
        try:
            again = await self._gate.decide_again(organization, gated.record, self._now())
        except StoreError as error:
            if not isinstance(error, UnreadablePolicy):
                raise
            again = self._gate.undecidable(gated.record, str(error), self._now())
        if gated.record.reason == CONSENTED and may_widen(again.mode, again.record.reason):
            return  # the prospect's consent holds as long as their location is all that speaks against it
        mode = CaptureMode(again.mode)
        if call not in self._gated or call.bridge is None or mode.width >= call.bridge.media.mode.width:
            return
        reason = again.record.reason
        call.bridge.media.narrow(mode, f"policy version {again.record.policy_version}: {reason}")
        self._gated[call] = replace(again, stored=gated.stored)
        self._gate.store(again)
        self._metrics.decided(again.mode, reason)
        log.info("call narrowed", call_id=again.record.call_id, mode=again.mode, reason=reason)

    async def watch(self) -> None:
        """Review live calls for ever: the settings may be changed by another process."""
        while True:
            await asyncio.sleep(REVIEW_SECONDS)
            if self._gated:
                try:
                    await self.review()
                except Exception as error:
                    self._metrics.exception(error)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Take no new calls; wait up to ``seconds`` for the live ones, hang up the rest; wait for the recordings."""
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.hang_up_all()
        for task in tuple(self._tasks):
            task.cancel()
        await self.settle()

    def hang_up_all(self) -> None:
        """End every call now."""
        for call in tuple(self.calls.values()):
            call.hang_up(Kind.SHUTDOWN, self._clock(), "the gateway is shutting down")
        self.calls.clear()
        self._idle.set()
        self.flush()

    async def settle(self) -> None:
        """Wait until the recordings that are being closed are in the journal."""
        if self._recordings:
            waiting = [asyncio.wrap_future(future) for future in tuple(self._recordings)]
            await asyncio.wait(waiting, timeout=10)
        await asyncio.sleep(0)

    def utc_now(self) -> datetime:
        return self._now()


def recording_row(result: RecordingResult, now: datetime) -> RecordingStored:
    """A recording's result as the store keeps it."""
    return RecordingStored(
        call_id=result.call_id,
        organization=result.organization,
        outcome=str(result.outcome),
        mode=str(result.mode),
        path=str(result.path) if result.path is not None else None,
        manifest_path=str(result.manifest_path) if result.manifest_path is not None else None,
        channels=result.channels,
        sample_rate=result.sample_rate,
        samples=result.samples,
        size_bytes=result.size_bytes,
        sha256=result.sha256,
        problems=result.problems,
        finished_at=now,
    )


def _identities(caller: Caller, request: Request) -> dict[str, Any]:
    """Who and what, for the manifest."""
    agent = caller.agent
    return {
        "direction": caller.direction,
        "agent": {"user_id": agent.user_id, "username": agent.username, "number": caller.agent_number},
        "prospect": {"number": caller.prospect_number},
        "sip_call_id": request.call_id,
        "from": request.from_.uri_text,
        "to": request.to.uri_text,
        "source": f"{caller.flow.transport}:{caller.flow.remote_host}:{caller.flow.remote_port}",
        "trunk": caller.trunk.name if caller.trunk is not None else None,
    }


__all__ = ["CallMetrics", "CallSettings", "CallTable", "EndedBy", "recording_row"]
