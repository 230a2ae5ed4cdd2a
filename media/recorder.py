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
from media.encoded import EncodedFile, name_for
from media.engine import CaptureMode, Codec, LegStats, Outcome, RecordingRequest, RecordingResult, SessionStats, Side
from media.formats import Converter, FileFormat, convert
from media.manifest import SCHEMA, Chain, component, directory_for, file_sha256, utc, write_atomically
from media.packets import Packet
from media.silence import Silences
from media.timeline import LegTimeline
from media.wav import WavWriter

log = structlog.get_logger("recorder")

HOLD_SECONDS = 0.6
"""How long samples wait for packets that are late or out of order before they are written."""
PATIENCE_SECONDS = 30.0
"""How long a recording of which nothing was heard yet waits with its sample rate."""
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
_ANNOUNCED = frozenset({"announcement", "announcement_end", "announcement_failed"})
_EDGES = frozenset({"narrow", "widen", "pause", "pause_end"}) | _ANNOUNCED
"""Events that every manifest has, a recovered one's too."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a recording ends."""

    end_ns: int
    termination: Mapping[str, Any]
    stats: SessionStats


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
        self._decision = dict(request.decision)
        self._sides = SIDES[mode]
        self._legs = {side: LegTimeline(start_ns, keep=self._keeper(side)) for side in self._sides}
        self._received_before = _received(source.stats())
        self._silences = Silences()
        self._encoded: dict[Side, EncodedFile] = {}
        self._rate: int | None = None
        self._ending: _Ending | None = None
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

    def widen(self, decision: Mapping[str, Any], at_ns: int, details: Mapping[str, object]) -> None:
        """From the agent's leg to both: the prospect's is silence until ``at_ns``. ``decision`` is the one in force."""
        self._commands.append(lambda r: r._widen(decision, at_ns, details))
        self._thread.wake()

    def mark(self, event: str, at_ns: int, details: Mapping[str, object]) -> None:
        """An event for the manifest."""
        self._commands.append(lambda r: r._mark(event, at_ns, details))

    def pause(self, at_ns: int, remaining: Mapping[Side, bytes], details: Mapping[str, object]) -> None:
        """All legs are silence from ``at_ns`` on, until ``resume``."""
        self._commands.append(lambda r: r._pause(at_ns, remaining, details))
        self._thread.wake()

    def resume(self, at_ns: int, details: Mapping[str, object]) -> None:
        """The legs are heard again."""
        self._commands.append(lambda r: r._resume(at_ns, details))
        self._thread.wake()

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
        self._writer = self._recorder.open_file(path, len(self._sides), self._rate or SAMPLE_RATE)
        self._writer.frames = frames

    def _settle_rate(self, *, final: bool = False) -> bool:
        """The file's sample rate: that of the better leg, by what is heard, else by what was agreed on. False while
        it may still be waited for."""
        if self._rate is not None:
            return True
        heard = {side: leg.heard_rate() for side, leg in self._legs.items()}
        if not final and not any(heard.values()):
            return False
        rates = [heard[side] or leg.promised_rate() for side, leg in self._legs.items()]
        self._rate = self._recorder.file_format.rate_for(max(rates, default=SAMPLE_RATE))
        for leg in self._legs.values():
            leg.rate = self._rate
        if self._writer is not None:
            self._writer.rate = self._rate
        return True

    def _identity(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "organization": self.request.organization,
            "call_id": self.request.call_id,
            "mode": str(self.mode),
            "decision": self._decision,
            "call": dict(self.request.call),
            "started": utc(self._started),
        }

    def _write_sidecar(self, directory: Path, closing: Mapping[str, Any] | None = None) -> None:
        """What recovery needs to know; ``closing`` is the manifest, where only the file is not converted yet. Raises
        OSError."""
        about = self._identity() | {
            "file_format": str(self._recorder.file_format),
            "events": [e for e in self._told_events() if e["event"] in _EDGES],
            "pauses": [list(pause) for pause in self._silences.pauses],
            "closing": closing,
        }
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
        if self.finished.done() or self._ending is not None:
            return
        for side, leg in self._legs.items():
            leg.feed(self._source.drain(side))
        if self._settle_rate(final=now_ns - self._start_ns > PATIENCE_SECONDS * 1e9):
            self._write(self._position(now_ns - int(HOLD_SECONDS * 1e9)))

    def _position(self, at_ns: int) -> int:
        return max(0, (at_ns - self._start_ns) * (self._rate or SAMPLE_RATE) // 1_000_000_000)

    def _write(self, until: int) -> None:
        if self._limit is not None:
            until = min(until, self._limit)
        if until <= self._written or not self._legs:
            return
        frames = np.empty((until - self._written, len(self._legs)), dtype=np.int16)
        for channel, (side, leg) in enumerate(self._legs.items()):
            samples = leg.take(until)
            self._silences.apply(side, samples, self._written)
            frames[:, channel] = samples
        before, self._written = self._written, until
        try:
            if self._writer is None and self._directory is not None:
                self._open_file(self._directory / f"{self.request.call_id}.wav.part", before)
            if self._writer is not None:
                self._writer.append(frames)
                self._failing = False
        except OSError as error:
            self._trouble("samples could not be written, and are silence in the file", error)

    def _mark(self, event: str, at_ns: int, details: Mapping[str, object]) -> None:
        if event == "hold":
            for leg in self._legs.values():
                leg.interrupt()
        if len(self._events) < 1000 or event in _EDGES:
            self._events.append({"event": event, "at_ns": at_ns, **details})
        if event in _ANNOUNCED:
            self._note_edge("the announcement could not be noted")

    def _told_events(self) -> list[dict[str, Any]]:
        """The events with their samples."""
        return [
            {"event": e["event"], "sample": self._position(e["at_ns"])}
            | {key: value for key, value in e.items() if key not in ("event", "at_ns")}
            for e in self._events
        ]

    def _narrow(self, mode: CaptureMode, reason: str, at_ns: int, remaining: Mapping[Side, bytes]) -> None:
        self._feed(remaining)
        sample = self._position(at_ns)
        self._mark("narrow", at_ns, {"mode": str(mode), "reason": reason})
        for side, leg in self._legs.items():
            if side not in SIDES[mode]:
                self._silences.end(side, sample)
                leg.interrupt()
        if mode is CaptureMode.NONE:
            self._limit = sample
        self._note_edge("the narrowing could not be noted")

    def _widen(self, decision: Mapping[str, Any], at_ns: int, details: Mapping[str, object]) -> None:
        if self._sides != SIDES[CaptureMode.AGENT_ONLY] or self._ending is not None:
            return
        try:
            if self._writer is not None:
                self._writer.widen()
        except OSError as error:
            self._trouble("the prospect's channel could not be added", error)
            return
        self._decision = dict(decision)
        self.mode, self._sides = CaptureMode.BOTH, SIDES[CaptureMode.BOTH]
        leg = self._legs[Side.PROSPECT] = LegTimeline(self._start_ns, keep=self._keeper(Side.PROSPECT))
        if self._rate is not None:
            leg.rate = self._rate
        leg.interrupt()
        self._silences.begin(Side.PROSPECT, self._position(at_ns))
        if self._written:
            leg.take(self._written)
        self._received_before = {**self._received_before, Side.PROSPECT: _received(self._source.stats())[Side.PROSPECT]}
        self._mark("widen", at_ns, {"mode": str(self.mode), **details})
        self._note_edge("the widening could not be noted")

    def _feed(self, remaining: Mapping[Side, bytes]) -> None:
        """Take what was left in rings that are gone; positions are samples from here on."""
        for side, data in remaining.items():
            if side in self._legs:
                self._legs[side].feed(data)
        self._settle_rate(final=True)

    def _note_edge(self, trouble: str) -> None:
        try:
            if self._directory is not None and self._sides:
                self._write_sidecar(self._directory)
        except OSError as error:
            self._trouble(trouble, error)

    def _pause(self, at_ns: int, remaining: Mapping[Side, bytes], details: Mapping[str, object]) -> None:
        self._feed(remaining)
        self._silences.pause(self._position(at_ns))
        for leg in self._legs.values():
            leg.interrupt()
        self._mark("pause", at_ns, details)
        self._note_edge("the pause could not be noted")

    def _resume(self, at_ns: int, details: Mapping[str, object]) -> None:
        self._silences.resume(self._position(at_ns))
        self._mark("pause_end", at_ns, details)
        self._note_edge("the end of the pause could not be noted")

    def _finish(
        self, end_ns: int, termination: Mapping[str, Any], remaining: Mapping[Side, bytes], stats: SessionStats
    ) -> None:
        if self._ending is not None:
            return
        self._ending = _Ending(end_ns, termination, stats)

        def close() -> None:
            self._feed(remaining)
            for leg in self._legs.values():
                leg.interrupt()  # what is missing at the end is the end
            self._write(self._position(end_ns))
            self._close_file()
            manifest = self._manifest()
            format_ = self._recorder.file_format
            if format_ is FileFormat.WAV or manifest["audio"] is None:
                self._conclude(manifest)
            else:
                self._convert(manifest, format_)

        self._guarded(close)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong at the end, there is a result."""
        try:
            work()
        except Exception as error:
            log.exception("recording failed", call_id=self.request.call_id)
            problem = f"{type(error).__name__}: {error}"
            self._done(self._result(Outcome.FAILED, None, None, (*self._problems, problem)))

    def _done(self, result: RecordingResult) -> None:
        self._legs = {}  # their buffers; who holds the result needs them no more
        if not self.finished.done():
            self.finished.set_result(result)

    def _convert(self, manifest: dict[str, Any], format_: FileFormat) -> None:
        """Make the file of the configured format beside the WAV file, in the converter's thread."""
        assert self._writer is not None and self._directory is not None
        source, target = self._writer.path, self._directory / f"{self.request.call_id}{format_.suffix}"
        try:
            self._write_sidecar(self._directory, manifest)
        except OSError as error:
            self._trouble("the end of the call could not be noted", error)

        def work() -> None:
            problem: OSError | None = None
            try:
                convert(source, target, format_)
            except OSError as error:
                problem = error
            self._commands.append(lambda r: r._guarded(lambda: r._converted(manifest, target, format_, problem)))
            self._thread.wake()

        self._recorder.converter.submit(work)

    def _converted(self, manifest: dict[str, Any], target: Path, format_: FileFormat, problem: OSError | None) -> None:
        if problem is None:
            manifest["audio"] |= {"file": target.name, "format": format_.label, "sha256": file_sha256(target)}
        else:
            self._trouble(f"it is kept as WAV: it could not be made {format_.label}", problem)
            manifest |= {"outcome": str(self._outcome()), "problems": self._problems}
        self._conclude(manifest)

    def _conclude(self, manifest: dict[str, Any]) -> None:
        path = self._write_manifest(manifest)
        outcome = Outcome(manifest["outcome"]) if path is not None else Outcome.FAILED
        self._done(self._result(outcome, path, manifest, tuple(self._problems)))

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

    def _close_file(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.finish()
        except OSError as error:
            self._trouble("the recording could not be finished", error)
        finally:
            self._writer.close()

    def _outcome(self) -> Outcome:
        if self.mode is CaptureMode.NONE:
            return Outcome.BLOCKED
        if self._writer is None or not self._writer.path.exists():
            return Outcome.FAILED
        return Outcome.DEGRADED if self._problems else Outcome.COMPLETE

    def _manifest(self) -> dict[str, Any]:
        assert self._ending is not None
        stats = self._ending.stats
        ended = self._started + timedelta(microseconds=(self._ending.end_ns - self._start_ns) // 1000)
        legs = {
            side.name.lower(): self._leg(side, counters, stats.quality.get(side.name.lower(), {}))
            for side, counters in ((Side.AGENT, stats.agent), (Side.PROSPECT, stats.prospect))
        }
        self._note_missing(stats)
        audio = self._audio()
        return {
            **self._identity(),
            "outcome": str(self._outcome()),
            "ended": utc(ended),
            "termination": dict(self._ending.termination),
            "audio": audio,
            "legs": legs,
            "events": self._told_events(),
            "pauses": self._silences.ranges(self._written),
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
        skew = counts.skew_ns * leg.rate // 10**9
        # DTMF and the like came, and were never meant to be captured: they are no loss
        uncaptured = max(0, counters.received - self._received_before[side] - counters.captured)
        gaps, omitted = leg.gaps(self._written)
        concealed, more = leg.concealed(self._written)
        return about | {
            "placed": counts.placed, "lost": max(0, counts.expected - counts.unique - uncaptured),
            "late": counts.late, "duplicate": counts.duplicate, "reordered": counts.reordered,
            "codecs": counts.codecs, "undecodable": counts.undecodable, "skew_samples": skew,
            "gaps": [list(gap) for gap in gaps], "gaps_omitted": omitted,
            "concealed": [list(part) for part in concealed], "concealed_omitted": more,
            "encoded": self._close_encoded(side),
        }  # fmt: skip

    def _keeper(self, side: Side) -> Callable[[Packet], None] | None:
        return (lambda packet: self._keep(side, packet)) if self._recorder.keep_undecodable else None

    def _keep(self, side: Side, packet: Packet) -> None:
        """A captured packet that can't be decoded goes into the leg's own file."""
        try:
            if side not in self._encoded and self._directory is not None:
                name = name_for(self.request.call_id, side.name.lower())
                self._encoded[side] = EncodedFile(self._directory / f"{name}.part", self._started, self._start_ns)
            if side in self._encoded:
                self._encoded[side].add(packet)
        except OSError as error:
            self._trouble("encoded payload could not be kept", error)

    def _close_encoded(self, side: Side) -> dict[str, Any] | None:
        file = self._encoded.pop(side, None)
        if file is None:
            return None
        try:
            path = file.finish()
            return {"file": path.name, "format": "rtpdump", "packets": file.packets, "sha256": file_sha256(path)}
        except OSError as error:
            self._trouble("encoded payload could not be kept", error)
            return None

    def _audio(self) -> dict[str, Any] | None:
        if self._writer is None or not self._writer.path.exists():
            return None
        try:
            digest: str | None = file_sha256(self._writer.path)
        except OSError as error:
            self._trouble("the recording could not be read back", error)
            digest = None
        return {
            "file": self._writer.path.with_suffix("").name,
            "format": FileFormat.WAV.label,
            "sample_rate": self._writer.rate,
            "channels": len(self._sides),
            "channel_legs": [side.name.lower() for side in self._sides],
            "samples": self._writer.frames,
            "sha256": digest,
        }

    def _write_manifest(self, manifest: Mapping[str, Any]) -> Path | None:
        """The manifest in place and the file under its final name, the working file gone; None (and a log line) when
        that can't be."""
        if self._directory is None:
            self._open()
        if self._directory is None:
            log.error("manifest could not be written", call_id=self.request.call_id, manifest=dict(manifest))
            return None
        path = self._directory / f"{self.request.call_id}.json"
        working = self._writer.path if self._writer is not None and manifest["audio"] is not None else None
        try:
            if working is not None and working.with_suffix("").name == manifest["audio"]["file"]:
                working.replace(working.with_suffix(""))  # first, so that who sees a manifest finds its file
            self._recorder.append_to_chain(self.request.organization, path, manifest)
            if working is not None and working.with_suffix("").name != manifest["audio"]["file"]:
                working.unlink(missing_ok=True)
            (self._directory / f"{self.request.call_id}.part.json").unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            if working is not None and not working.exists():
                with contextlib.suppress(OSError):  # the sidecar is still there: the next start finishes it
                    working.with_suffix("").replace(working)
            self._trouble("the manifest could not be written", error)
            log.error("manifest could not be written", call_id=self.request.call_id, manifest=dict(manifest))
            return None
        return path

    def _result(
        self, outcome: Outcome, manifest_path: Path | None, manifest: Mapping[str, Any] | None,
        problems: tuple[str, ...],
    ) -> RecordingResult:  # fmt: skip
        about = (manifest or {}).get("audio") or {}
        path = self._directory / about["file"] if self._directory is not None and about else None
        size = path.stat().st_size if path is not None and path.exists() else 0
        return RecordingResult(
            self.request.call_id, self.request.organization, outcome, self.mode, path, manifest_path,
            int(about.get("channels", 0)), int(about.get("sample_rate", 0)), int(about.get("samples", 0)), size,
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
        open_file: Callable[[Path, int, int], WavWriter] = WavWriter,
        file_format: FileFormat = FileFormat.WAV,
        keep_undecodable: bool = False,
        thread: bool = True,
    ) -> None:
        """``thread`` False: nothing runs by itself, tests call ``run_once``. ``keep_undecodable``: payload of codecs
        that can't be decoded goes into files of its own (``media.encoded``)."""
        self.root = root
        self.file_format = file_format
        self.keep_undecodable = keep_undecodable
        self.converter = Converter(thread=thread)
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
        self.converter.close()
