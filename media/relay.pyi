"""Typed twin of relay.pyx; what it does and why is told there."""

from collections.abc import Iterable
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
    send_failed: int
    last_packet_ns: int
    far_end: tuple[str, int] | None

class Session:
    @staticmethod
    def detached(*, family: int = 2, ring_bytes: int = 262144, guard_ns: int = 1_000_000_000) -> Session: ...
    def set_remote(
        self, side: int, rtp: tuple[str, int] | None, rtcp: tuple[str, int] | None = None, now: int = 0
    ) -> None: ...
    def set_capture_types(self, side: int, payload_types: Iterable[int]) -> None: ...
    def start_capture(self, side: int, start_ns: int) -> bool: ...
    def drain(self, side: int) -> bytes: ...
    def stop_capture(self, side: int) -> bytes | None: ...
    def ring_memory(self, side: int) -> bytes | None: ...
    def stats(self) -> tuple[LegCounters, LegCounters]: ...
    def feed(
        self, side: int, rtcp: bool, source: tuple[str, int], data: bytes, now: int
    ) -> tuple[str, tuple[str, int] | None]: ...
    def close(self) -> None: ...

class Relay:
    rings_made: int
    rings_freed: int
    def __init__(
        self, workers: int = 1, *, coalesce_us: int = 1000, ring_bytes: int = 262144, guard_ns: int = 1_000_000_000
    ) -> None: ...
    def open(self, agent: tuple[int, int], prospect: tuple[int, int]) -> Session: ...
    def stats(self) -> list[dict[str, int]]: ...
    def close(self) -> None: ...
