"""The composition root: the one place where settings, store, consent, SIP and media meet."""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import structlog

from config.settings import Settings
from gateway.assembly import Edge, Entropy, Telemetry, make_announcements, make_edge, make_media, make_table
from gateway.b2bua.calls import CallTable, recording_row
from gateway.b2bua.gate import ConsentGate, load_data
from gateway.consent.engine import ConsentData
from gateway.sip.message import MessageLimits
from gateway.sip.user_agent import UserAgent
from gateway.store.store import Store
from gateway.telemetry import Metrics
from gateway.transport.tls import TlsError
from gateway.web.app import make_app
from gateway.web.context import Web
from gateway.web.server import WebServer
from media.native import NativeMediaEngine
from media.recovery import recover

log = structlog.get_logger("gateway")


class StartError(Exception):
    """The gateway can't start; the message says what is wrong."""


class Gateway:
    """A running gateway. ``start`` makes one, ``stop`` ends it."""

    def __init__(
        self, settings: Settings, store: Store, media: NativeMediaEngine, table: CallTable, edge: Edge,
        metrics: Metrics, entropy: Entropy,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.store = store
        self.media = media
        self.calls = table
        self.transport = edge.transport
        self.guard = edge.guard
        self.metrics = metrics
        self._entropy = entropy
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
        metrics, entropy = Metrics(), Entropy()
        telemetry = Telemetry(metrics)
        try:
            edge = make_edge(settings, metrics, telemetry, entropy)
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
            announcements = await asyncio.to_thread(make_announcements, settings)
            store = await Store.open(settings.store.url)
            root = settings.recording.root
            recovered = await asyncio.to_thread(recover, root)
            if settings.telemetry.metrics:
                metrics.serve(*settings.telemetry.address)
            if lost := await store.end_lost_calls(datetime.now(UTC)):
                log.warning("calls were live when the gateway stopped", calls=lost)
        except Exception as error:
            if store is not None:
                await store.close()
            await edge.transport.close()
            raise StartError(f"{type(error).__name__}: {error}") from error
        media = make_media(settings)
        table = make_table(settings, store, media, ConsentGate(store, data), edge, telemetry, announcements)
        gateway = cls(settings, store, media, table, edge, metrics, entropy)
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
        sip, limits, entropy = self.settings.sip, self.settings.limits, self._entropy
        agent = UserAgent(
            self.calls,
            self.transport.endpoints,
            token=entropy.token,
            choose=entropy.choose,
            software=sip.user_agent,
            advertise=sip.advertise,
            connected=self.transport.connected,
            guard=self.guard,
            limits=MessageLimits(limits.message_bytes, limits.message_headers, limits.body_bytes),
            t1=sip.t1_milliseconds / 1000,
        )
        self.calls.agent = agent
        self.calls.flush = self.transport.flush
        self.calls.proved = self.guard.authenticated
        await self.transport.start(agent)
        asyncio.get_running_loop().add_reader(self.media.keys_fd, self.media.deliver_keys)
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
        if self.media.keys_fd >= 0:
            asyncio.get_running_loop().remove_reader(self.media.keys_fd)
        await asyncio.to_thread(self.media.close, 10.0)
        await self.calls.settle()
        await self.store.close()


def _text(path: Path | None, default: str) -> str:
    """A reference data file: the operator's, or the one that comes with the gateway."""
    source = path if path is not None else files("config").joinpath(default)
    return source.read_text(encoding="utf-8")
