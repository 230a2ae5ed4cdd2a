"""Typed twin of relay.pyx; what it does and why is told there."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

RECORD_HEADER: int
VERDICTS: tuple[str, ...]

class LegCounters(TypedDict):
    received: int
    received_bytes: int
    forwarded: int
    dropped_source: int
    dropped_malformed: int
    dropped_no_target: int
    captured: int
    captured_bytes: int
    ring_lost: int
    rtcp_received: int
    rtcp_forwarded: int
    held_back: int
    played: int
    send_failed: int
    last_packet_ns: int
    far_end: tuple[str, int] | None

class LegQualityCounts(TypedDict):
    payload_type: int
    expected: int
    lost: int
    jitter_ms: float | None
    jitter_most_ms: float | None
    longest_gap_ms: float
    reports: int
    reported_lost: int
    reported_fraction_most: float
    reported_jitter_ms: float | None
    round_trip_ms: float | None
    round_trip_most_ms: float | None

class Session:
    sent: bytes | None
    @staticmethod
    def detached(*, family: int = 2, ring_bytes: int = 262144, guard_ns: int = 1_000_000_000) -> Session: ...
    def set_remote(
        self, side: int, rtp: tuple[str, int] | None, rtcp: tuple[str, int] | None = None, now: int = 0
    ) -> None: ...
    def set_capture_types(self, side: int, payload_types: Iterable[int]) -> None: ...
    def set_clock_rates(self, side: int, rates: Mapping[int, int]) -> None: ...
    def hold_apart(self, side: int, apart: bool) -> None: ...
    def begin_playing(
        self, side: int, clock: int, ticks: int, ssrc: int, sequence: int, timestamp: int, now: int = 0
    ) -> None: ...
    def play(self, side: int, payload_type: int, payload: bytes, first: bool, now: int = 0) -> bool: ...
    def end_playing(self, side: int) -> None: ...
    def set_event_types(self, side: int, payload_types: Iterable[int]) -> None: ...
    def take_events(self, side: int) -> tuple[list[tuple[int, bool, int, int, int, int]], int]: ...
    def start_capture(self, side: int, start_ns: int) -> bool: ...
    def drain(self, side: int) -> bytes: ...
    def stop_capture(self, side: int) -> bytes | None: ...
    def ring_memory(self, side: int) -> bytes | None: ...
    def stats(self) -> tuple[LegCounters, LegCounters]: ...
    def quality(self) -> tuple[LegQualityCounts, LegQualityCounts]: ...
    def feed(
        self, side: int, rtcp: bool, source: tuple[str, int], data: bytes, now: int
    ) -> tuple[str, tuple[str, int] | None]: ...
    def close(self) -> None: ...

class Relay:
    rings_made: int
    rings_freed: int
    backend: str
    fallback: str
    def __init__(
        self,
        workers: int = 1,
        *,
        backend: str = "auto",
        coalesce_us: int = 2000,
        gather: int = 32,
        ring_bytes: int = 262144,
        guard_ns: int = 1_000_000_000,
    ) -> None: ...
    def open(self, agent: tuple[int, int], prospect: tuple[int, int]) -> Session: ...
    @property
    def events_fd(self) -> int: ...
    def rung_sessions(self) -> list[Session]: ...
    def stats(self) -> list[dict[str, int]]: ...
    def close(self) -> None: ...

def time_quality(packets: int) -> float: ...
