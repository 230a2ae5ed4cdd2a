"""What the composition root puts together: settings into trunks, guard, transport, media and the table of calls."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from config.settings import KeyFiles, Settings
from gateway.b2bua import routing
from gateway.b2bua.announcing import AnnouncementRule, Beep
from gateway.b2bua.authentication import Authenticator
from gateway.b2bua.call import CallLimits
from gateway.b2bua.calls import CallSettings, CallTable
from gateway.b2bua.gate import ConsentGate
from gateway.b2bua.keys import ControlKeys
from gateway.b2bua.termination import Termination
from gateway.guard.guard import Guard, GuardLimits, Known
from gateway.guard.pace import StreamLimits
from gateway.guard.scanners import TOOLS
from gateway.sip.digest import DigestServer
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.store.store import Store
from gateway.telemetry import Metrics, RateLimit
from gateway.transport.endpoint import SipTransport
from gateway.transport.stream import StreamPolicy
from gateway.transport.tls import FarEnd, KeyPair, TlsContexts, TlsSettings
from media.announcement import beep, read_announcement
from media.engine import Side
from media.formats import FileFormat
from media.native import NativeMediaEngine
from media.quality import SessionQuality
from media.recorder import Recorder

log = structlog.get_logger("gateway")

SIDES = {"agent": (Side.AGENT,), "prospect": (Side.PROSPECT,), "both": (Side.AGENT, Side.PROSPECT)}
"""Legs by the settings' words."""


class Telemetry:
    """Counts and complaints of the call table and of the guard, into metrics and a log of bounded rate."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._malformed_rate = RateLimit()
        self._exception_rate = RateLimit()
        self._ban_rate = RateLimit()

    def call_started(self) -> None:
        self._metrics.live.inc()

    def call_ended(self, termination: Termination) -> None:
        self._metrics.live.dec()
        self._metrics.calls.labels(str(termination.kind)).inc()

    def decided(self, mode: str, reason: str) -> None:
        self._metrics.decisions.labels(mode, reason).inc()
        if reason == "engine_error":
            self._metrics.engine_errors.inc()

    def recorded(self, outcome: str) -> None:
        self._metrics.recordings.labels(outcome).inc()

    def quality(self, quality: SessionQuality) -> None:
        for side, leg in (("agent", quality.agent), ("prospect", quality.prospect)):
            self._metrics.observe_stream(side, "received", leg.received)
            if leg.sent is not None:
                self._metrics.observe_stream(side, "sent", leg.sent)
            if leg.round_trip_ms is not None:
                self._metrics.round_trip.labels(side).observe(leg.round_trip_ms / 1000)

    def malformed(self, flow: Flow, error: SipError) -> None:
        self._metrics.malformed.inc()
        if self._malformed_rate.allow(asyncio.get_running_loop().time()):
            log.warning("malformed message", source=f"{flow.remote_host}:{flow.remote_port}", error=str(error),
                        suppressed=self._malformed_rate.suppressed)  # fmt: skip
            self._malformed_rate.suppressed = 0

    def exception(self, error: Exception) -> None:
        self._metrics.exceptions.inc()
        if self._exception_rate.allow(asyncio.get_running_loop().time()):
            log.error("defect caught", exc_info=error)

    def limited(self, reason: str) -> None:
        self._metrics.refused.labels(reason).inc()

    def refused(self, reason: str, flow: Flow) -> None:
        self._metrics.refused.labels(reason).inc()

    def dropped(self, reason: str, flow: Flow) -> None:
        self._metrics.dropped.labels(reason).inc()

    def failed(self, flow: Flow) -> None:
        self._metrics.failed_authentications.inc()

    def banned(self, end: str, flow: Flow) -> None:
        self._metrics.bans.inc()
        if self._ban_rate.allow(time.monotonic()):
            log.warning("banned for guessing passwords", end=end, transport=flow.transport,
                        suppressed=self._ban_rate.suppressed)  # fmt: skip
            self._ban_rate.suppressed = 0

    def connection_closed(self, reason: str) -> None:
        """A TCP or TLS connection was refused or cut off."""
        self._metrics.connections_closed.labels(reason).inc()


class Entropy:
    """Unguessable tokens out of one system call for many."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def _take(self) -> bytes:
        if self._at + 8 > len(self._pool):
            self._pool, self._at = os.urandom(4096), 0
        self._at += 8
        return self._pool[self._at - 8 : self._at]

    def token(self) -> str:
        """64 bits in hexadecimal."""
        return self._take().hex()

    def choose(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included, of a range far below 2**64."""
        return low + int.from_bytes(self._take(), "big") % (high - low + 1)


def make_media(settings: Settings) -> NativeMediaEngine:
    media = settings.media
    return NativeMediaEngine(
        Recorder(
            settings.recording.root,
            step_seconds=settings.recording.step_seconds,
            writers=settings.recording.writers,
            file_format=FileFormat(settings.recording.format),
            keep_undecodable=settings.recording.keep_undecodable,
        ),
        port_range=(media.port_min, media.port_max),
        workers=media.workers,
        ring_bytes=media.ring_bytes,
        quarantine_seconds=media.port_quarantine_seconds,
        backend=media.backend,
        coalesce_us=media.coalesce_microseconds,
        gather=media.coalesce_packets,
    )


@dataclass(frozen=True, slots=True)
class Edge:
    """Sockets, guard and router, which need each other."""

    transport: SipTransport
    guard: Guard
    router: routing.Router
    digest: DigestServer


def make_edge(settings: Settings, metrics: Metrics, telemetry: Telemetry, entropy: Entropy) -> Edge:
    """Bind the sockets, with the guard in front. Raises TlsError, OSError."""
    limits = settings.limits
    router = routing.Router(_trunks(settings), _peers(settings), lambda flow: transport.names_of(flow))
    digest = DigestServer(
        settings.sip.realm, secrets.token_bytes(32), algorithms=settings.sip.digest_algorithms,
        nonce_seconds=limits.nonce_seconds,
    )  # fmt: skip

    def configured(flow: Flow) -> Known | None:
        sender = router.sender(flow)
        if sender is not None:
            return Known(sender.line, sender.calls_per_second)
        return Known("trusted") if routing.contains(limits.trusted, flow.remote_host) else None

    guard = Guard(_guard_limits(settings), configured, digest, entropy.token, telemetry)
    policy = StreamPolicy(
        limits=StreamLimits(
            connections=limits.connections,
            per_source=limits.connections_per_source,
            message=limits.message_seconds,
            unproven=limits.stranger_seconds,
            idle=limits.idle_seconds,
            write=limits.write_seconds,
            handshake=limits.handshake_seconds,
        ),
        known=lambda flow: guard.known(flow, time.monotonic()),
        welcome=lambda flow: guard.welcome(flow, time.monotonic()),
        closed=telemetry.connection_closed,
        max_message=limits.message_bytes,
    )
    transport = SipTransport(
        ((listen.transport, listen.host, listen.port) for listen in settings.sip.listen),
        contexts=_tls(settings),
        streams=policy,
        late=guard.overload.sample if limits.overload_seconds else None,
    )
    metrics.connections.set_function(lambda: transport.connections.total)
    metrics.banned.set_function(lambda: guard.banned_count(time.monotonic()))
    metrics.shed.set_function(lambda: guard.overload.share)
    return Edge(transport, guard, router, digest)


def _guard_limits(settings: Settings) -> GuardLimits:
    limits = settings.limits
    return GuardLimits(
        requests=limits.stranger_requests_per_second,
        requests_at_once=limits.stranger_requests_per_second * 6,
        challenges=limits.stranger_challenges_per_second,
        challenges_at_once=limits.stranger_challenges_per_second * 10,
        ban_failures=limits.ban_failures,
        ban_window=limits.ban_window_seconds,
        ban_seconds=limits.ban_seconds,
        scanners=(*TOOLS, *limits.scanners),
        emergency=frozenset(limits.emergency_numbers),
        overload=limits.overload_seconds,
    )


def _tls(settings: Settings) -> TlsContexts | None:
    """Raises TlsError."""
    own = _key_pair(settings.tls)
    if own is None:
        return None
    far_ends = tuple(
        FarEnd(far.host, far.sip_port, far.server_name, far.ca, _key_pair(far))
        for far in (*settings.trunks, *settings.peers)
        if far.host is not None and far.transport == "tls"
    )
    return TlsContexts(
        TlsSettings(
            own=own,
            names=tuple((one.name, pair) for one in settings.tls.names if (pair := _key_pair(one)) is not None),
            ca=settings.tls.ca,
            minimum_version=settings.tls.minimum_version,
            clients=settings.tls.client_certificates,
            far_ends=far_ends,
        )
    )


def _key_pair(files: KeyFiles) -> KeyPair | None:
    return KeyPair(files.certificate, files.key) if files.certificate is not None and files.key is not None else None


def make_announcements(settings: Settings) -> tuple[AnnouncementRule, ...]:
    """Read and encode the files. Raises AnnouncementError."""
    rules = []
    for about in settings.announcements:
        announcement = read_announcement(about.file)
        announcement.prepare()
        two_party_only = about.where == "two_party"
        rules.append(
            AnnouncementRule(
                announcement,
                SIDES[about.to],
                frozenset(about.modes),
                about.organization,
                two_party_only,
                about.consent_key,
                about.consent_seconds,
            )
        )
    return tuple(rules)


def _beep(settings: Settings) -> Beep | None:
    recording = settings.recording
    if not recording.beep_to:
        return None
    sound = beep(recording.beep_hertz, recording.beep_milliseconds)
    return Beep(sound, SIDES[recording.beep_to], recording.beep_seconds)


def make_table(
    settings: Settings,
    store: Store,
    media: NativeMediaEngine,
    gate: ConsentGate,
    edge: Edge,
    telemetry: Telemetry,
    announcements: tuple[AnnouncementRule, ...] = (),
) -> CallTable:
    sip = settings.sip
    return CallTable(
        CallSettings(
            max_calls=sip.max_calls,
            media_hosts=settings.media.hosts,
            media_advertise=settings.media.advertise,
            headers_passed=frozenset(name.lower() for name in sip.headers_passed),
            recording_enabled=settings.recording.enabled,
            keys=ControlKeys(settings.recording.pause_keys, settings.recording.resume_keys),
            agent_calls=settings.limits.agent_calls,
            emergency=frozenset(settings.limits.emergency_numbers),
            announcements=announcements,
            beep=_beep(settings),
            opt_out_key=settings.recording.opt_out_key,
            opt_out_mode=settings.recording.opt_out_mode,
        ),
        CallLimits(
            no_answer=sip.no_answer_seconds,
            trunk_timeout=sip.trunk_timeout_seconds,
            duration=sip.max_call_seconds,
            inactivity=settings.media.inactivity_seconds,
        ),
        store=store,
        gate=gate,
        media=media,
        router=edge.router,
        authenticator=Authenticator(edge.digest, watch=edge.guard),
        metrics=telemetry,
    )


def _trunks(settings: Settings) -> Iterable[routing.Trunk]:
    for t in settings.trunks:
        yield routing.Trunk(
            t.name,
            t.host,
            t.sip_port,
            t.transport,
            t.username,
            t.password,
            tuple(t.networks),
            t.caller_id,
            t.names,
            t.max_calls,
            t.calls_per_second,
        )


def _peers(settings: Settings) -> Iterable[routing.Peer]:
    for p in settings.peers:
        yield routing.Peer(
            p.name,
            tuple(p.networks),
            p.organization,
            p.user,
            p.trust_state_header,
            p.host or "",
            p.sip_port,
            p.transport,
            p.names,
        )
