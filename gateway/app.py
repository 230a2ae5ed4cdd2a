"""The composition root: the one place where settings, store, consent, SIP and media meet."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import structlog

from config.settings import KeyFiles, Settings
from gateway.b2bua import routing
from gateway.b2bua.authentication import Authenticator
from gateway.b2bua.call import CallLimits
from gateway.b2bua.calls import CallSettings, CallTable, recording_row
from gateway.b2bua.gate import ConsentGate, load_data
from gateway.b2bua.keys import ControlKeys
from gateway.b2bua.termination import Termination
from gateway.consent.engine import ConsentData
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.user_agent import UserAgent
from gateway.store.store import Store
from gateway.telemetry import Metrics, RateLimit
from gateway.transport.endpoint import SipTransport
from gateway.transport.tls import FarEnd, KeyPair, TlsContexts, TlsError, TlsSettings
from gateway.web.app import make_app
from gateway.web.context import Web
from gateway.web.server import WebServer
from media.formats import FileFormat
from media.native import NativeMediaEngine
from media.quality import SessionQuality
from media.recorder import Recorder
from media.recovery import recover

log = structlog.get_logger("gateway")


class StartError(Exception):
    """The gateway can't start; the message says what is wrong."""


class Telemetry:
    """The call table's counts and complaints, into metrics and a log of bounded rate."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._malformed_rate = RateLimit()
        self._exception_rate = RateLimit()

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


class Gateway:
    """A running gateway. ``start`` makes one, ``stop`` ends it."""

    def __init__(
        self, settings: Settings, store: Store, media: NativeMediaEngine, table: CallTable, transport: SipTransport
    ) -> None:
        self.settings = settings
        self.store = store
        self.media = media
        self.calls = table
        self.transport = transport
        self._stopped = False
        self._watching: asyncio.Task[None] | None = None
        self.web: Web | None = None
        self.web_server: WebServer | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as SIP URIs."""
        return [
            f"sip:{f'[{e.host}]' if ':' in e.host else e.host}:{e.port};transport={e.transport}"
            for e in self.transport.endpoints
        ]

    @classmethod
    async def start(cls, settings: Settings) -> Gateway:
        """Open the store, finish what a crash left, bind, serve. Raises StartError; nothing is left open then."""
        try:
            transport = SipTransport(
                ((listen.transport, listen.host, listen.port) for listen in settings.sip.listen),
                contexts=_tls(settings),
            )
        except TlsError as error:
            raise StartError(f"tls: {error}") from None
        except OSError as error:
            raise StartError(str(error.strerror or error)) from None
        store = None
        try:
            texts = (
                _text(settings.data.area_codes, "area_codes.csv"),
                _text(settings.data.jurisdictions, "jurisdictions.toml"),
            )
            data = load_data(*texts)
            store = await Store.open(settings.store.url)
            root = settings.recording.root
            recovered = await asyncio.to_thread(recover, root)
            if lost := await store.end_lost_calls(datetime.now(UTC)):
                log.warning("calls were live when the gateway stopped", calls=lost)
        except Exception as error:
            if store is not None:
                await store.close()
            await transport.close()
            raise StartError(f"{type(error).__name__}: {error}") from error
        media = _media(settings)
        table = _table(settings, store, media, ConsentGate(store, data), transport)
        gateway = cls(settings, store, media, table, transport)
        for result in recovered:
            log.warning("recording recovered", call_id=result.call_id, outcome=str(result.outcome))
            store.journal.recording_stored(recording_row(result, table.utc_now()))
        try:
            await gateway._serve_web(data, texts)
        except Exception as error:
            await gateway.stop(0)
            raise StartError(f"web.listen: {getattr(error, 'strerror', None) or error}") from error
        await gateway._serve()
        return gateway

    async def _serve_web(self, data: ConsentData, texts: tuple[str, str]) -> None:
        """Page and API. Raises OSError, RuntimeError."""
        settings = self.settings.web
        if settings.address is None:
            return
        host, port = settings.address
        self.web = Web(
            store=self.store,
            store_url=self.settings.store.url,
            data=data,
            reference_texts=texts,
            live=self.calls,
            policy_changed=self.calls.review,
            recordings_root=self.settings.recording.root,
            realm=self.settings.sip.realm,
            support_contact=settings.support_contact,
            session_lifetime=timedelta(hours=settings.session_hours),
            session_idle=timedelta(minutes=settings.idle_minutes),
            secure_cookies=not ipaddress.ip_address(host).is_loopback,
            max_upload_bytes=settings.max_upload_megabytes * 1024 * 1024,
        )
        app = make_app(self.web)
        if settings.page:
            from gateway.web.page.main import install  # takes a second to import: only where there is a page

            install(app, self.web)
        self.web_server = WebServer(
            app, host, port, certificate=settings.certificate, key=settings.key,
            trusted_proxies=",".join(settings.trusted_proxies),
        )  # fmt: skip
        await self.web_server.start()
        if settings.certificate is None and not settings.trusted_proxies and not ipaddress.ip_address(host).is_loopback:
            log.warning(
                "the page is served without TLS; browsers keep its sessions over https alone", url=self.web_server.url
            )

    async def _serve(self) -> None:
        sip = self.settings.sip
        entropy = Entropy()
        agent = UserAgent(
            self.calls,
            self.transport.endpoints,
            token=entropy.token,
            choose=entropy.choose,
            software=sip.user_agent,
            advertise=sip.advertise,
            connected=self.transport.connected,
            t1=sip.t1_milliseconds / 1000,
        )
        self.calls.agent = agent
        self.calls.flush = self.transport.flush
        await self.transport.start(agent)
        self._watching = asyncio.create_task(self.calls.watch())

    def reload(self) -> None:
        """Read certificates, keys and CAs again. What can't be read is logged, and the old ones stay in force."""
        try:
            self.transport.reload()
        except TlsError as error:
            log.error("certificates not reloaded", error=str(error))
        else:
            log.info("certificates reloaded")

    async def stop(self, seconds: float | None = None) -> None:
        """Drain: no new calls, live ones may finish within ``seconds`` (None: as configured), recordings are closed."""
        if self._stopped:
            return
        self._stopped = True
        if self._watching is not None:
            self._watching.cancel()
        if self.web_server is not None:
            await self.web_server.stop()
        if self.web is not None:
            await self.web.close()
        await self.calls.drain(self.settings.sip.drain_seconds if seconds is None else seconds)
        await self.transport.close()
        await asyncio.to_thread(self.media.close, 10.0)
        await self.calls.settle()
        await self.store.close()


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


def _text(path: Path | None, default: str) -> str:
    """A reference data file: the operator's, or the one that comes with the gateway."""
    source = path if path is not None else files("config").joinpath(default)
    return source.read_text(encoding="utf-8")


def _media(settings: Settings) -> NativeMediaEngine:
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


def _table(
    settings: Settings, store: Store, media: NativeMediaEngine, gate: ConsentGate, transport: SipTransport
) -> CallTable:
    sip = settings.sip
    metrics = Metrics()
    if settings.telemetry.metrics:
        host, _, port = settings.telemetry.metrics.rpartition(":")
        metrics.serve(host.strip("[]") or "127.0.0.1", int(port))
    return CallTable(
        CallSettings(
            max_calls=sip.max_calls,
            media_hosts=settings.media.hosts,
            media_advertise=settings.media.advertise,
            headers_passed=frozenset(name.lower() for name in sip.headers_passed),
            recording_enabled=settings.recording.enabled,
            keys=ControlKeys(settings.recording.pause_keys, settings.recording.resume_keys),
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
        router=routing.Router(_trunks(settings), _peers(settings), transport.names_of),
        authenticator=Authenticator(sip.realm, secrets.token_bytes(32), algorithms=sip.digest_algorithms),
        metrics=Telemetry(metrics),
    )


def _trunks(settings: Settings) -> Iterable[routing.Trunk]:
    for t in settings.trunks:
        yield routing.Trunk(
            t.name, t.host, t.sip_port, t.transport, t.username, t.password, tuple(t.networks), t.caller_id, t.names
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
