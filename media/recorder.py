"""The recorder: one writer thread that drains every recording's rings, places samples, writes files and manifests.

Calls into a recording come from the event loop and only queue work; the disk is touched in the writer thread alone.
Whatever the disk does, the call goes on: the manifest, or the log where nothing can be written, says what is missing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import structlog

from media.codecs import SAMPLE_RATE
from media.engine import CaptureMode, Codec, LegStats, Outcome, RecordingRequest, RecordingResult, SessionStats, Side
from media.manifest import SCHEMA, Chain, component, directory_for, file_sha256, utc, write_atomically
from media.timeline import LegTimeline
from media.wav import WavWriter

log = structlog.get_logger("recorder")

HOLD_SECONDS = 0.4
"""How long samples wait for packets that are late or out of order before they are written."""
SIDES = {CaptureMode.NONE: (), CaptureMode.AGENT_ONLY: (Side.AGENT,), CaptureMode.BOTH: (Side.AGENT, Side.PROSPECT)}


class CaptureSource(Protocol):
    """Where captured packets come from (``media.native``)."""

    def drain(self, side: Side) -> bytes: ...

    def stats(self) -> SessionStats: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic nanoseconds and UTC."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)


Command = Callable[["Recording"], None]


class Recording:
    """One recording. The public methods queue; the underscored ones run in the writer thread."""

    def __init__(
        self, recorder: Recorder, thread: Writer, request: RecordingRequest, mode: CaptureMode, source: CaptureSource,
        start_ns: int,
    ) -> None:  # fmt: skip
        self.request = request
        self.mode = mode
        self.finished: Future[RecordingResult] = Future()
        self._recorder = recorder
        self._thread = thread
        self._source = source
        self._start_ns = start_ns
        self._started = recorder.clock.utc()
        self._sides = SIDES[mode]
        self._legs = {side: LegTimeline(start_ns) for side in self._sides}
        self._received_before = _received(source.stats())
        self._silent: dict[Side, int] = {}
        self._commands: deque[Command] = deque()
        self._events: list[dict[str, Any]] = []
        self._problems: list[str] = []
        self._writer: WavWriter | None = None
        self._directory: Path | None = None
        self._written = 0
        self._limit: int | None = None
        self._failing = False

    # -- queued ------------------------------------------------------------------------------------------------------

    def set_codecs(self, side: Side, codecs: Mapping[int, Codec], at_ns: int) -> None:
        """Payload types of ``side`` from a time on."""
        self._commands.append(lambda r: r._legs[side].set_codecs(codecs, at_ns) if side in r._legs else None)

    def narrow(self, mode: CaptureMode, reason: str, at_ns: int, remaining: Mapping[Side, bytes]) -> None:
        """Legs that ``mode`` does not name are silence from ``at_ns`` on; with ``none`` the file ends there."""
        self._commands.append(lambda r: r._narrow(mode, reason, at_ns, remaining))
        self._thread.wake()

    def mark(self, event: str, at_ns: int, details: Mapping[str, object]) -> None:
        """An event for the manifest."""
        self._commands.append(lambda r: r._mark(event, at_ns, details))

    def finish(
        self, end_ns: int, termination: Mapping[str, Any], remaining: Mapping[Side, bytes], stats: SessionStats
    ) -> Future[RecordingResult]:
        """Close the file and write the manifest; the future is done when both are in place."""
        self._commands.append(lambda r: r._finish(end_ns, termination, remaining, stats))
        self._thread.wake()
        return self.finished

    # -- in the writer thread ----------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Make the directory, the sidecar that recovery needs, and the file."""
        try:
            directory = directory_for(self._recorder.root, self.request.organization, self._started)
            name = component(self.request.call_id)
            directory.mkdir(parents=True, exist_ok=True)
            self._directory = directory
            if self._sides:
                self._write_sidecar(directory)
                self._open_file(directory / f"{name}.wav.part", self._written)
        except (OSError, ValueError) as error:
            self._trouble("the recording could not be opened", error)

    def _open_file(self, path: Path, frames: int) -> None:
        """Open the file with ``frames`` frames of silence for what is past."""
        self._writer = self._recorder.open_file(path, len(self._sides))
        self._writer.frames = frames

    def _identity(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "organization": self.request.organization,
            "call_id": self.request.call_id,
            "mode": str(self.mode),
            "decision": dict(self.request.decision),
            "call": dict(self.request.call),
            "started": utc(self._started),
        }

    def _write_sidecar(self, directory: Path) -> None:
        """What recovery needs to know. Raises OSError."""
        about = self._identity() | {"events": [e for e in self._events if e["event"] == "narrow"]}
        write_atomically(directory / f"{self.request.call_id}.part.json", self._recorder.encode(about))

    def _trouble(self, what: str, error: Exception) -> None:
        text = f"{what}: {getattr(error, 'strerror', None) or error}"
        if text not in self._problems and len(self._problems) < 100:
            self._problems.append(text)
        if not self._failing:
            self._failing = True
            log.error("recording trouble", call_id=self.request.call_id, problem=text)

    def step(self, now_ns: int) -> None:
        """Do what is queued, drain, write what is old enough."""
        if self._directory is None and not self.finished.done():
            self._open()
        while self._commands and not self.finished.done():
            self._commands.popleft()(self)
        if self.finished.done():
            return
        for side, leg in self._legs.items():
            leg.feed(self._source.drain(side))
        self._write(self._position(now_ns) - int(HOLD_SECONDS * SAMPLE_RATE))

    def _position(self, at_ns: int) -> int:
        return max(0, int((at_ns - self._start_ns) * SAMPLE_RATE / 1e9))

    def _write(self, until: int) -> None:
        if self._limit is not None:
            until = min(until, self._limit)
        if until <= self._written or not self._legs:
            return
        taken = [leg.take(until) for leg in self._legs.values()]
        for side, sample in self._silent.items():
            index = list(self._legs).index(side)
            taken[index][max(0, sample - self._written) :] = 0
        before, self._written = self._written, until
        frames = taken[0] if len(taken) == 1 else np.stack(taken, axis=1)
        try:
            if self._writer is None and self._directory is not None:
                self._open_file(self._directory / f"{self.request.call_id}.wav.part", before)
            if self._writer is not None:
                self._writer.append(frames)
                self._failing = False
        except OSError as error:
            self._trouble("samples could not be written, and are silence in the file", error)

    def _mark(self, event: str, at_ns: int, details: Mapping[str, object]) -> None:
        if len(self._events) < 1000:
            self._events.append({"event": event, "sample": self._position(at_ns), **details})

    def _narrow(self, mode: CaptureMode, reason: str, at_ns: int, remaining: Mapping[Side, bytes]) -> None:
        for side, data in remaining.items():
            if side in self._legs:
                self._legs[side].feed(data)
        sample = self._position(at_ns)
        self._events.append({"event": "narrow", "sample": sample, "mode": str(mode), "reason": reason})
        for side in self._legs:
            if side not in SIDES[mode]:
                self._silent.setdefault(side, sample)
        if mode is CaptureMode.NONE:
            self._limit = sample
        try:
            if self._directory is not None and self._sides:
                self._write_sidecar(self._directory)
        except OSError as error:
            self._trouble("the narrowing could not be noted", error)

    def _finish(
        self, end_ns: int, termination: Mapping[str, Any], remaining: Mapping[Side, bytes], stats: SessionStats
    ) -> None:
        try:
            result = self._close(end_ns, termination, remaining, stats)
        except Exception as error:
            log.exception("recording failed", call_id=self.request.call_id)
            result = self._result(
                Outcome.FAILED, None, None, None, (*self._problems, f"{type(error).__name__}: {error}")
            )
        self._legs = {}  # their buffers; who holds the result needs them no more
        if not self.finished.done():
            self.finished.set_result(result)

    def _close(
        self, end_ns: int, termination: Mapping[str, Any], remaining: Mapping[Side, bytes], stats: SessionStats
    ) -> RecordingResult:
        for side, data in remaining.items():
            if side in self._legs:
                self._legs[side].feed(data)
        self._write(self._position(end_ns))
        self._note_missing(stats)
        audio = self._close_file()
        outcome = self._outcome(audio)
        manifest = self._manifest(outcome, end_ns, termination, stats, audio)
        path = self._write_manifest(manifest)
        if path is None and outcome is not Outcome.FAILED:
            outcome = Outcome.FAILED
        return self._result(outcome, audio, path, manifest, tuple(self._problems))

    def _note_missing(self, stats: SessionStats) -> None:
        for side, counters in ((Side.AGENT, stats.agent), (Side.PROSPECT, stats.prospect)):
            leg = self._legs.get(side)
            if leg is None:
                continue
            name = side.name.lower()
            if counters.ring_lost:
                self._problems.append(f"{name}: {counters.ring_lost} packets found the capture ring full")
            for codec, count in leg.counts.undecodable.items():
                self._problems.append(f"{name}: {count} packets of {codec} could not be decoded")
            if leg.counts.late:
                self._problems.append(f"{name}: {leg.counts.late} packets came too late to be placed")

    def _close_file(self) -> Path | None:
        """The file complete under its own name, or None."""
        if self._writer is None:
            return None
        final = self._writer.path.with_suffix("")
        try:
            self._writer.finish()
            return final
        except OSError as error:
            self._trouble("the recording could not be finished", error)
            return final if self._writer.path.exists() else None
        finally:
            self._writer.close()

    def _outcome(self, audio: Path | None) -> Outcome:
        if self.mode is CaptureMode.NONE:
            return Outcome.BLOCKED
        if audio is None:
            return Outcome.FAILED
        return Outcome.DEGRADED if self._problems else Outcome.COMPLETE

    def _manifest(
        self, outcome: Outcome, end_ns: int, termination: Mapping[str, Any], stats: SessionStats, audio: Path | None
    ) -> dict[str, Any]:
        ended = self._started + timedelta(microseconds=(end_ns - self._start_ns) // 1000)
        return {
            **self._identity(),
            "outcome": str(outcome),
            "ended": utc(ended),
            "termination": dict(termination),
            "audio": self._audio(audio),
            "legs": {
                side.name.lower(): self._leg(side, counters, stats.quality.get(side.name.lower(), {}))
                for side, counters in ((Side.AGENT, stats.agent), (Side.PROSPECT, stats.prospect))
            },
            "events": self._events,
            "problems": self._problems,
        }

    def _leg(self, side: Side, counters: LegStats, quality: Mapping[str, Any]) -> dict[str, Any]:
        """One leg's share of the manifest. ``gaps`` are sample ranges without audio of it."""
        leg = self._legs.get(side)
        about: dict[str, Any] = {
            "captured_leg": leg is not None,
            "received": counters.received,
            "forwarded": counters.forwarded,
            "dropped": counters.dropped_source + counters.dropped_malformed,
            "dropped_source": counters.dropped_source,
            "captured": counters.captured,
            "ring_lost": counters.ring_lost,
            "quality": dict(quality),
        }
        if leg is None:
            return about
        counts = leg.settle()
        # DTMF and the like came, and were never meant to be captured: they are no loss
        uncaptured = max(0, counters.received - self._received_before[side] - counters.captured)
        gaps, omitted = leg.gaps(self._written)
        return about | {
            "placed": counts.placed, "lost": max(0, counts.expected - counts.unique - uncaptured),
            "late": counts.late, "duplicate": counts.duplicate, "reordered": counts.reordered,
            "codecs": counts.codecs, "undecodable": counts.undecodable, "skew_samples": counts.skew_samples,
            "gaps": [list(gap) for gap in gaps], "gaps_omitted": omitted,
        }  # fmt: skip

    def _audio(self, audio: Path | None) -> dict[str, Any] | None:
        if audio is None or self._writer is None:
            return None
        try:
            digest: str | None = file_sha256(self._writer.path)
        except OSError as error:
            self._trouble("the recording could not be read back", error)
            digest = None
        return {
            "file": audio.name,
            "format": "WAV PCM16",
            "sample_rate": SAMPLE_RATE,
            "channels": len(self._sides),
            "channel_legs": [side.name.lower() for side in self._sides],
            "samples": self._writer.frames,
            "sha256": digest,
        }

    def _write_manifest(self, manifest: Mapping[str, Any]) -> Path | None:
        """The manifest in place and the file under its final name; None (and a log line) when that can't be."""
        if self._directory is None:
            self._open()
        if self._directory is None:
            log.error("manifest could not be written", call_id=self.request.call_id, manifest=dict(manifest))
            return None
        path = self._directory / f"{self.request.call_id}.json"
        audio = self._writer.path if self._writer is not None and manifest["audio"] is not None else None
        try:
            if audio is not None:  # first, so that who sees a manifest finds its file
                audio.replace(audio.with_suffix(""))
            self._recorder.append_to_chain(self.request.organization, path, manifest)
            (self._directory / f"{self.request.call_id}.part.json").unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            if audio is not None and not audio.exists():
                with contextlib.suppress(OSError):  # the sidecar is still there: the next start finishes it
                    audio.with_suffix("").replace(audio)
            self._trouble("the manifest could not be written", error)
            log.error("manifest could not be written", call_id=self.request.call_id, manifest=dict(manifest))
            return None
        return path

    def _result(
        self, outcome: Outcome, audio: Path | None, manifest_path: Path | None, manifest: Mapping[str, Any] | None,
        problems: tuple[str, ...],
    ) -> RecordingResult:  # fmt: skip
        about = (manifest or {}).get("audio") or {}
        samples = int(about.get("samples", 0))
        channels = int(about.get("channels", 0))
        return RecordingResult(
            self.request.call_id, self.request.organization, outcome, self.mode, audio, manifest_path, channels,
            SAMPLE_RATE if channels else 0, samples, 44 + samples * channels * 2 if channels else 0,
            about.get("sha256"), problems,
        )  # fmt: skip


def _received(stats: SessionStats) -> dict[Side, int]:
    return {Side.AGENT: stats.agent.received, Side.PROSPECT: stats.prospect.received}


class Writer:
    """One thread and the recordings it writes, each once in a step, spread over it."""

    def __init__(self, step: float, clock: Clock, thread: bool) -> None:
        self._step = step
        self._clock = clock
        self._recordings: dict[Recording, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True) if thread else None
        if self._thread is not None:
            self._thread.start()

    @property
    def load(self) -> int:
        """How many recordings it has."""
        return len(self._recordings)

    def add(self, recording: Recording) -> None:
        with self._lock:
            self._recordings[recording] = 0.0
        self._wake.set()

    def wake(self) -> None:
        """There is something to do now."""
        self._wake.set()

    def run_once(self, now_ns: int | None = None) -> None:
        """One step of every recording."""
        with self._lock:
            recordings = list(self._recordings)
        for recording in recordings:
            self._step_one(recording, now_ns)

    def _step_one(self, recording: Recording, now_ns: int | None = None) -> None:
        try:
            recording.step(self._clock.monotonic_ns() if now_ns is None else now_ns)
        except Exception:
            log.exception("recorder defect", call_id=recording.request.call_id)
        if recording.finished.done():
            with self._lock:
                self._recordings.pop(recording, None)

    def _run(self) -> None:
        while not self._stopping:
            if seconds := self._round():
                self._wake.wait(seconds)
            self._wake.clear()

    def _round(self) -> float:
        """Step what is due; how long to wait when nothing was. (A frame of its own, which keeps no recording.)"""
        now = time.monotonic()
        with self._lock:
            due = [r for r, at in self._recordings.items() if at <= now or r._commands]
            for recording in due:
                self._recordings[recording] = now + self._step
            upcoming = min(self._recordings.values(), default=now + self._step)
        for recording in due:
            self._step_one(recording)
        return 0.0 if due else max(0.01, min(self._step, upcoming - now))

    def pending(self) -> list[Future[RecordingResult]]:
        """What is not finished yet."""
        with self._lock:
            return [recording.finished for recording in self._recordings]

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)


class Recorder:
    """The writer of all recordings under ``root``: ``writers`` threads, each recording in the one with the fewest."""

    def __init__(
        self,
        root: Path,
        *,
        step_seconds: float = 1.5,
        writers: int = 1,
        clock: Clock | None = None,
        open_file: Callable[[Path, int], WavWriter] = WavWriter,
        thread: bool = True,
    ) -> None:
        """``thread`` False: nothing runs by itself, tests call ``run_once``."""
        self.root = root
        self.clock = clock or Clock()
        self.open_file = open_file
        self._writers = [Writer(step_seconds, self.clock, thread) for _ in range(writers)]
        self._chain_lock = threading.Lock()

    @staticmethod
    def encode(value: Mapping[str, Any]) -> bytes:
        import json

        return (json.dumps(value, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace")

    def start(self, request: RecordingRequest, mode: CaptureMode, source: CaptureSource, start_ns: int) -> Recording:
        """A new recording; its file is opened by the writer."""
        writer = min(self._writers, key=lambda writer: writer.load)
        recording = Recording(self, writer, request, mode, source, start_ns)
        writer.add(recording)
        return recording

    def append_to_chain(self, organization: str, path: Path, manifest: Mapping[str, Any]) -> None:
        """Write a manifest as the next of its organization's chain. Raises OSError, ValueError."""
        with self._chain_lock:
            Chain(self.root, organization).append(path, manifest)

    def run_once(self, now_ns: int | None = None) -> None:
        """One step of every recording."""
        for writer in self._writers:
            writer.run_once(now_ns)

    def close(self, timeout: float) -> None:
        """Wait for what is being finished, then stop the threads."""
        pending = [future for writer in self._writers for future in writer.pending()]
        for writer in self._writers:
            writer.wake()
        wait(pending, timeout)
        for writer in self._writers:
            writer.stop()
