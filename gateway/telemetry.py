"""What the gateway says about itself: structlog events and Prometheus metrics."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from media.quality import StreamQuality

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(level: str, style: str) -> None:
    """Send events of ``level`` and above to stderr: ``console`` for people, ``json`` for machines."""
    renderer: Any = structlog.processors.JSONRenderer(default=str)
    if style == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


class Metrics:
    """The metrics of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("twoparty_calls", "Calls by how they ended", ["termination"], registry=self.registry)
        self.live = Gauge("twoparty_live_calls", "Calls now", registry=self.registry)
        self.decisions = Counter("twoparty_decisions", "Consent decisions", ["mode", "reason"], registry=self.registry)
        self.recordings = Counter("twoparty_recordings", "Recordings by outcome", ["outcome"], registry=self.registry)
        self.malformed = Counter(
            "twoparty_malformed_messages", "SIP messages refused or dropped", registry=self.registry
        )
        self.exceptions = Counter("twoparty_exceptions", "Defects caught at an edge", registry=self.registry)
        self.engine_errors = Counter(
            "twoparty_engine_errors", "Calls not recorded because deciding failed", registry=self.registry
        )
        labels = ["leg", "direction"]
        self.mos = Histogram(
            "twoparty_stream_mos", "MOS by the E-model (G.107), a call's streams each once", labels,
            buckets=(1.5, 2, 2.5, 3, 3.25, 3.5, 3.75, 4, 4.25, 4.5), registry=self.registry,
        )  # fmt: skip
        self.loss = Histogram(
            "twoparty_stream_loss_ratio", "Packets lost of those expected", labels,
            buckets=(0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), registry=self.registry,
        )  # fmt: skip
        self.jitter = Histogram(
            "twoparty_stream_jitter_seconds", "Interarrival jitter (RFC 3550)", labels,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), registry=self.registry,
        )  # fmt: skip
        self.round_trip = Histogram(
            "twoparty_round_trip_seconds", "Between the gateway and a leg's far end, by RTCP", ["leg"],
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2), registry=self.registry,
        )  # fmt: skip
        self.dropped = Counter(
            "twoparty_dropped_messages", "SIP messages of strangers that were not answered", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self.refused = Counter(
            "twoparty_refused_calls", "Calls refused to keep a limit", ["reason"], registry=self.registry
        )
        self.failed_authentications = Counter(
            "twoparty_failed_authentications", "Wrong answers to challenges", registry=self.registry
        )
        self.bans = Counter("twoparty_bans", "Bans for guessing passwords", registry=self.registry)
        self.banned = Gauge("twoparty_banned", "Addresses banned now", registry=self.registry)
        self.shed = Gauge("twoparty_overload_share", "Share of new calls refused now", registry=self.registry)
        self.connections = Gauge("twoparty_connections", "TCP and TLS connections now", registry=self.registry)
        self.connections_closed = Counter(
            "twoparty_connections_closed", "TCP and TLS connections refused or cut off", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self.setup_seconds = Histogram("twoparty_call_setup_seconds", "INVITE in to INVITE out", registry=self.registry)

    def observe_stream(self, leg: str, direction: str, stream: StreamQuality) -> None:
        """One direction of one leg of a call that has ended."""
        if not stream.packets:
            return
        self.loss.labels(leg, direction).observe(stream.loss_percent / 100)
        if stream.jitter_ms is not None:
            self.jitter.labels(leg, direction).observe(stream.jitter_ms / 1000)
        if stream.mos is not None:
            self.mos.labels(leg, direction).observe(stream.mos)

    def serve(self, host: str, port: int) -> None:
        """Serve ``/metrics`` from a thread. Raises OSError."""
        start_http_server(port, addr=host, registry=self.registry)


class RateLimit:
    """Lets at most ``burst`` events pass in each ``seconds``; a fuzzer must not fill the disk with log lines."""

    def __init__(self, burst: int = 20, seconds: float = 10.0) -> None:
        self._burst, self._seconds = burst, seconds
        self._window = float("-inf")
        self._passed = 0
        self.suppressed = 0
        """Events held back since the last one that passed."""

    def allow(self, now: float) -> bool:
        if now - self._window >= self._seconds:
            self._window, self._passed = now, 0
        self._passed += 1
        if self._passed > self._burst:
            self.suppressed += 1
            return False
        return True
