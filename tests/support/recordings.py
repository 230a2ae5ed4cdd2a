"""Recordings made without a relay: a recorder in the test's own thread, fed from memory, with its own clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from media.engine import CaptureMode, Codec, LegStats, RecordingRequest, RecordingResult, SessionStats, Side
from media.recorder import Clock, Recorder, Recording
from tests.support.rtp_stream import RATE, Captured, sound, stream

SECOND = 10**9
BEGIN = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
CODECS = {0: Codec("PCMU", 8000), 8: Codec("PCMA", 8000)}


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.ns = 10**15

    def clock(self) -> Clock:
        start = self.ns
        return Clock(lambda: self.ns, lambda: BEGIN + timedelta(microseconds=(self.ns - start) / 1000))


class Memory:
    """A capture source: packets by side, handed over when their time has come."""

    def __init__(self, hand: Hand, packets: Mapping[Side, Sequence[Captured]]) -> None:
        self._hand, self._start = hand, hand.ns
        self._left = {side: sorted(theirs, key=lambda p: p.at) for side, theirs in packets.items()}
        self._given = dict.fromkeys(Side, 0)

    def drain(self, side: Side) -> bytes:
        queue = self._left.get(side, [])
        due = [p for p in queue if self._start + p.at <= self._hand.ns]
        self._left[side] = queue[len(due) :]
        self._given[side] += len(due)
        return b"".join(packet.record(self._start) for packet in due)

    def stats(self) -> SessionStats:
        agent, prospect = (LegStats(received=n, captured=n, forwarded=n) for n in self._given.values())
        return SessionStats(agent, prospect)


def request(
    call_id: str = "call-1", mode: CaptureMode = CaptureMode.BOTH, organization: str = "acme"
) -> RecordingRequest:
    decision = {"mode": str(mode), "reason": "test", "rule": 12, "trace": []}
    return RecordingRequest(organization, call_id, decision, {"direction": "outbound"})


class Take:
    """One recording in progress."""

    def __init__(
        self, recorder: Recorder, hand: Hand, mode: CaptureMode = CaptureMode.BOTH, *, seconds: float = 3.0,
        call_id: str = "call-1", packets: Mapping[Side, Sequence[Captured]] | None = None,
    ) -> None:  # fmt: skip
        self.recorder, self.hand, self.seconds = recorder, hand, seconds
        self.audio = {side: sound(int(seconds * RATE), seed=int(side) + 1) for side in Side}
        if packets is None:
            packets = {side: stream(audio) for side, audio in self.audio.items()}
        self.source = Memory(hand, packets)
        self.start = hand.ns
        self.recording: Recording = recorder.start(request(call_id, mode), mode, self.source, hand.ns)
        for side in Side:
            self.recording.set_codecs(side, CODECS, hand.ns)

    def run(self, until: float, step: float = 0.5) -> None:
        """Let time pass until ``until`` seconds after the start."""
        while self.hand.ns < self.start + int(until * SECOND):
            self.hand.ns = min(self.hand.ns + int(step * SECOND), self.start + int(until * SECOND))
            self.recorder.run_once()

    def finish(self) -> RecordingResult:
        self.run(self.seconds)
        remaining = {side: self.source.drain(side) for side in Side}
        done = self.recording.finish(self.hand.ns, {"kind": "completed"}, remaining, self.source.stats())
        self.recorder.run_once()
        return done.result(timeout=0)


def quiet_recorder(root: Path, hand: Hand, **options: Any) -> Recorder:
    """A recorder without a thread."""
    return Recorder(root, clock=hand.clock(), thread=False, **options)


def record(
    root: Path, mode: CaptureMode = CaptureMode.BOTH, *, call_id: str = "call-1", seconds: float = 2.0, **options: Any
) -> RecordingResult:
    """One whole recording under ``root``; ``options`` are the recorder's."""
    hand = Hand()
    return Take(quiet_recorder(root, hand, **options), hand, mode, seconds=seconds, call_id=call_id).finish()
