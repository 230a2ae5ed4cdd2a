"""The media engine of the gateway: the native relay, the port ranges and the recorder, tied together.

Order of captured bytes, which the recorder may rely on: what ``CaptureSource.drain`` returned and what was handed over
as ``remaining`` are, for each side, the records in order of arrival, each once. Both happen with the GIL held
throughout (the relay does not release it while it takes a ring's content), so that of two concurrent calls one is
wholly before the other; after ``remaining`` was taken the ring is gone and ``drain`` returns b"". A writer that drains
and works off its queue of ``narrow``/``finish`` in one thread therefore has the records in order without any lock.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import structlog

from media.announcement import Announcement
from media.engine import (
    Address,
    CaptureMode,
    Codec,
    LegStats,
    MediaError,
    RecordingRequest,
    RecordingResult,
    SessionStats,
    Side,
)
from media.keys import KeyEvents, PressedKey, TelephoneEvent
from media.player import Player, Playing
from media.ports import PortPair, PortPool
from media.quality import SessionQuality, session_quality
from media.relay import Relay
from media.relay import Session as RelaySession

if TYPE_CHECKING:
    from media.relay import LegCounters

log = structlog.get_logger(__name__)

EVENT_FORMATS = frozenset({"TELEPHONE-EVENT", "TONE", "CN"})
"""Formats that carry no audio (RFC 4733, RFC 3389): relayed, never captured."""
KEY_FORMAT = "TELEPHONE-EVENT"

_SIDES_OF = {
    CaptureMode.NONE: (),
    CaptureMode.AGENT_ONLY: (Side.AGENT,),
    CaptureMode.BOTH: (Side.AGENT, Side.PROSPECT),
}

T = TypeVar("T")


class UnusableAddress(MediaError):
    """A far end signalled an address that packets cannot be sent to (RFC 3261 §21.4.26: 488)."""

    sip_status = 488


@lru_cache(maxsize=4096)
def _reachable(host: str) -> str | None:
    """An IP literal as the system writes it, None for the unspecified address. Raises UnusableAddress."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise UnusableAddress(f"{host!r} is not an IP literal") from None
    if address.is_unspecified:
        return None
    if address.is_multicast or str(address) == "255.255.255.255":
        raise UnusableAddress(f"RTP cannot be relayed to {address}")
    return str(address)


class CaptureSource(Protocol):
    """What the recorder draws from; both methods may be called from any thread at any time."""

    def drain(self, side: Side) -> bytes:
        """Whole ring records (``media.relay``), b"" when there are none or no ring."""

    def stats(self) -> SessionStats:
        """The counters now; the last ones once the session is closed."""


class Recording(Protocol):
    """One recording in the making; the methods queue work for the writer and return at once."""

    def set_codecs(self, side: Side, codecs: Mapping[int, Codec], at_ns: int) -> None: ...

    def narrow(self, mode: CaptureMode, reason: str, at_ns: int, remaining: Mapping[Side, bytes]) -> None: ...

    def pause(self, at_ns: int, remaining: Mapping[Side, bytes], details: Mapping[str, object]) -> None: ...

    def resume(self, at_ns: int, details: Mapping[str, object]) -> None: ...

    def widen(self, decision: Mapping[str, Any], at_ns: int, details: Mapping[str, object]) -> None: ...

    def mark(self, event: str, at_ns: int, details: Mapping[str, object]) -> None: ...

    def finish(
        self, end_ns: int, termination: Mapping[str, Any], remaining: Mapping[Side, bytes], stats: SessionStats
    ) -> Future[RecordingResult]: ...


class Recorder(Protocol):
    """The writer of all recordings (``media.recorder``)."""

    def start(
        self, request: RecordingRequest, mode: CaptureMode, source: CaptureSource, start_ns: int
    ) -> Recording: ...

    def close(self, timeout: float) -> None: ...


class _Source:
    """A relay session as the recorder sees it."""

    def __init__(self, relay: RelaySession) -> None:
        self._relay = relay

    def drain(self, side: Side) -> bytes:
        return self._relay.drain(side)

    def stats(self) -> SessionStats:
        agent, prospect = self._relay.stats()
        return SessionStats(_leg_stats(agent), _leg_stats(prospect))


class NativeMediaSession:
    """``media.engine.MediaSession`` on the native relay. Made by ``NativeMediaEngine.open``."""

    def __init__(
        self,
        relay: RelaySession,
        local: tuple[Address, Address],
        mode: CaptureMode,
        request: RecordingRequest,
        recorder: Recorder,
        player: Player,
        on_close: Callable[[NativeMediaSession], None],
    ) -> None:
        self._relay = relay
        self._source = _Source(relay)
        self._local = local
        self._mode = mode
        self._request = request
        self._recorder = recorder
        self._player = player
        self._playing: dict[Side, Playing] = {}
        self._on_close = on_close
        self._codecs: dict[Side, dict[int, Codec]] = {}
        self._on_key: Callable[[Side, PressedKey], None] | None = None
        self._events = {side: KeyEvents() for side in Side}
        self._recording: Recording | None = None
        self._started = False
        self._paused: dict[str, object] | None = None
        self._captured: frozenset[Side] = frozenset()
        self._finished: Future[RecordingResult | None] | None = None

    @property
    def mode(self) -> CaptureMode:
        return self._mode

    @property
    def captured(self) -> frozenset[Side]:
        return self._captured

    @property
    def relay(self) -> RelaySession:
        """The native half, for tests that look at ring memory."""
        return self._relay

    @property
    def capture_source(self) -> CaptureSource:
        """What the recorder draws from."""
        return self._source

    def local(self, side: Side) -> Address:
        return self._local[side]

    def set_remote(self, side: Side, rtp: Address | None, rtcp: Address | None = None) -> None:
        """See the protocol. The unspecified address (RFC 3264 §8.4) is a hold too.

        Raises UnusableAddress for a name, another address family than the leg's, a multicast or broadcast address, or
        a port of this very session; the leg is then as it was.
        """
        if self._finished is not None:
            return
        target = None if rtp is None else self._target(rtp)
        control = None if rtcp is None else self._target(rtcp)
        try:
            self._relay.set_remote(side, target, control)
        except ValueError as error:
            raise UnusableAddress(str(error)) from None

    def _target(self, address: Address) -> tuple[str, int] | None:
        host = _reachable(address.host)
        if host is None:
            return None
        for own in self._local:
            if host == own.host and address.port in (own.port, own.port + 1):
                raise UnusableAddress(f"{host} port {address.port} is the relay's own")
        return host, address.port

    def set_codecs(self, side: Side, codecs: Mapping[int, Codec]) -> None:
        if self._finished is not None:
            return
        self._codecs[side] = dict(codecs)
        audio = {pt: codec.clock_rate for pt, codec in codecs.items() if codec.name not in EVENT_FORMATS}
        self._relay.set_capture_types(side, audio)
        self._relay.set_clock_rates(side, audio)
        self._expect_events(side)
        self._tell_codecs(side, time.monotonic_ns())

    def hold_apart(self, side: Side, apart: bool) -> None:
        if self._finished is None:
            self._relay.hold_apart(side, apart)

    def play(self, side: Side, announcement: Announcement, codecs: Mapping[int, Codec]) -> Future[int] | None:
        now = self._playing.get(side)
        if self._finished is not None or (now is not None and not now.done.done()):
            return None
        heard = self._relay.quality()[side.other]
        sound = announcement.sound(codecs, heard["payload_type"] if heard["expected"] else None)
        if sound is None:
            return None
        self._playing[side] = playing = self._player.play(self._relay, side, sound)
        return playing.done

    def stop_playing(self) -> None:
        for playing in tuple(self._playing.values()):
            self._player.stop(playing)

    def listen(self, on_key: Callable[[Side, PressedKey], None]) -> None:
        self._on_key = on_key
        for side in self._codecs:
            self._expect_events(side)

    def _expect_events(self, side: Side) -> None:
        if self._on_key is not None and self._finished is None:
            codecs = self._codecs[side]
            self._relay.set_event_types(side, [pt for pt, codec in codecs.items() if codec.name == KEY_FORMAT])

    def deliver_keys(self) -> None:
        """Tell the listener of the keys that were pressed since the last call. A defect over there is logged."""
        for side in Side:
            events, lost = self._relay.take_events(side)
            if lost:
                log.warning("keys lost", call_id=self._request.call_id, leg=side.name.lower(), events=lost)
            for event in events:
                key = self._events[side].take(TelephoneEvent(*event))
                if key is not None and self._on_key is not None:
                    self._tell_key(side, key)

    def _tell_key(self, side: Side, key: PressedKey) -> None:
        assert self._on_key is not None
        try:
            self._on_key(side, key)
        except Exception:
            log.exception("key handler failed", call_id=self._request.call_id)

    def _tell_codecs(self, side: Side, at_ns: int) -> None:
        self._tell(lambda recording: recording.set_codecs(side, self._codecs[side], at_ns))

    def start_capture(self) -> None:
        if self._started or self._finished is not None:
            return
        self._started = True
        start_ns = time.monotonic_ns()
        missing = self._start_rings(start_ns) if self._paused is None else []
        try:
            self._recording = self._recorder.start(self._request, self._mode, self._source, start_ns)
        except Exception:
            log.exception("recorder_failed", call_id=self._request.call_id, at="start")
            self._stop_rings(CaptureMode.NONE)
            return
        for side in self._codecs:
            self._tell_codecs(side, start_ns)
        self._mark_missing(missing)
        if (details := self._paused) is not None:
            self._tell(lambda recording: recording.pause(start_ns, {}, details))

    def _start_rings(self, start_ns: int) -> list[Side]:
        """Make the rings that the mode allows; the sides for which there was no memory."""
        missing = [side for side in _SIDES_OF[self._mode] if not self._relay.start_capture(side, start_ns)]
        self._captured = frozenset(side for side in _SIDES_OF[self._mode] if side not in missing)
        return missing

    def _mark_missing(self, missing: list[Side]) -> None:
        for side in missing:
            self.mark("ring_failed", side=side.name.lower())

    @property
    def paused(self) -> bool:
        return self._paused is not None

    def pause(self, **details: object) -> None:
        if self._paused is not None or self._finished is not None:
            return
        self._paused = details
        remaining = self._stop_rings(CaptureMode.NONE)
        at_ns = time.monotonic_ns()
        self._tell(lambda recording: recording.pause(at_ns, remaining, details))

    def resume(self, **details: object) -> None:
        if self._paused is None or self._finished is not None:
            return
        self._paused = None
        if not self._started or self._recording is None:
            return
        at_ns = time.monotonic_ns()
        self._tell(lambda recording: recording.resume(at_ns, details))
        self._mark_missing(self._start_rings(at_ns))

    def narrow(self, mode: CaptureMode, reason: str) -> None:
        if mode.width > self._mode.width:
            raise ValueError(f"capture cannot widen from {self._mode.value} to {mode.value}")
        if mode is self._mode or self._finished is not None:
            return
        self._mode = mode
        remaining = self._stop_rings(mode)
        at_ns = time.monotonic_ns()
        self._tell(lambda recording: recording.narrow(mode, reason, at_ns, remaining))

    def admit_prospect(self, decision: Mapping[str, Any], **details: object) -> None:
        recording = self._recording
        if self._mode is not CaptureMode.AGENT_ONLY or recording is None or self._finished is not None:
            raise ValueError(f"the capture of {self._mode.value} can't be widened")
        self._mode = CaptureMode.BOTH
        at_ns = time.monotonic_ns()
        self._tell(lambda recording: recording.widen(decision, at_ns, details))
        if Side.PROSPECT in self._codecs:
            self._tell_codecs(Side.PROSPECT, at_ns)
        if self._paused is None:
            self._mark_missing(self._start_rings(at_ns))

    def _stop_rings(self, mode: CaptureMode) -> dict[Side, bytes]:
        """Destroy the rings that ``mode`` does not allow; what was still in them."""
        doomed = {side: self._relay.stop_capture(side) for side in Side if side not in _SIDES_OF[mode]}
        self._captured &= frozenset(_SIDES_OF[mode])
        return {side: records for side, records in doomed.items() if records is not None}

    def mark(self, event: str, **details: object) -> None:
        self._tell(lambda recording: recording.mark(event, time.monotonic_ns(), details))

    def stats(self) -> SessionStats:
        return self._source.stats()

    def quality(self) -> SessionQuality:
        return session_quality(
            self._relay.quality(), (self._codecs.get(Side.AGENT, {}), self._codecs.get(Side.PROSPECT, {}))
        )

    def close(self, termination: Mapping[str, Any]) -> Future[RecordingResult | None]:
        if self._finished is None:
            end_ns = time.monotonic_ns()
            remaining = self._stop_rings(CaptureMode.NONE)
            self.stop_playing()
            self._relay.close()
            self._on_key = None
            self._on_close(self)
            self._finished = self._finish(end_ns, termination, remaining)
            self._recording = None
        return self._finished

    def _finish(
        self, end_ns: int, termination: Mapping[str, Any], remaining: dict[Side, bytes]
    ) -> Future[RecordingResult | None]:
        if self._recording is not None:
            stats = replace(self.stats(), quality=self.quality().as_dict())
            finished = self._tell(lambda recording: recording.finish(end_ns, termination, remaining, stats))
            if finished is not None:
                return cast("Future[RecordingResult | None]", finished)
        nothing: Future[RecordingResult | None] = Future()
        nothing.set_result(None)
        return nothing

    def _tell(self, what: Callable[[Recording], T]) -> T | None:
        """Speak to the recording, if there is one. Trouble over there is logged and leaves the call alone."""
        if self._recording is None:
            return None
        try:
            return what(self._recording)
        except Exception:
            log.exception("recorder_failed", call_id=self._request.call_id, at="recording")
            return None


class NativeMediaEngine:
    """``media.engine.MediaEngine``: relay threads, RTP ports and the recorder.

    ``port_range`` is (lowest, highest), both usable; ``ring_bytes`` the room of each leg's capture ring;
    ``quarantine_seconds`` how long a closed call's ports rest; ``backend``, ``coalesce_us`` and ``gather`` see
    ``media.relay.Relay``; ``dscp`` marks what is sent (46 = EF, RFC 3246). Takes the recorder over: ``close`` closes
    it. Raises ValueError or OSError.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        port_range: tuple[int, int],
        workers: int = 1,
        ring_bytes: int = 256 * 1024,
        quarantine_seconds: float = 5.0,
        backend: str = "auto",
        coalesce_us: int = 2000,
        gather: int = 32,
        dscp: int = 46,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ports = PortPool(*port_range, quarantine=quarantine_seconds, clock=clock, dscp=dscp)
        self._relay = Relay(workers, backend=backend, ring_bytes=ring_bytes, coalesce_us=coalesce_us, gather=gather)
        log.info("relay", backend=self._relay.backend, threads=workers, **_why(self._relay.fallback))
        self._recorder = recorder
        self._player = Player()
        self._sessions: dict[RelaySession, NativeMediaSession] = {}
        self._closed = False

    @property
    def relay(self) -> Relay:
        """The native relay, for its worker and ring counters."""
        return self._relay

    @property
    def live(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    @property
    def keys_fd(self) -> int:
        """See the protocol."""
        return self._relay.events_fd

    def deliver_keys(self) -> None:
        """See the protocol."""
        for relay in self._relay.rung_sessions():
            session = self._sessions.get(relay)
            if session is not None:
                session.deliver_keys()

    def open(
        self, *, agent_host: str, prospect_host: str, capture: CaptureMode, recording: RecordingRequest
    ) -> NativeMediaSession:
        """See the protocol."""
        if self._closed:
            raise MediaError("the media engine is closed")
        agent = self._ports.open(agent_host)
        try:
            prospect = self._ports.open(prospect_host)
        except BaseException:
            self._ports.cancel(agent)
            raise
        relay = self._open_relay(agent, prospect)
        session = NativeMediaSession(
            relay, (agent.address, prospect.address), capture, recording, self._recorder, self._player, self._forget
        )
        self._sessions[relay] = session
        return session

    def _open_relay(self, agent: PortPair, prospect: PortPair) -> RelaySession:
        """The relay takes the descriptors over; if it cannot, it has closed them."""
        descriptors = [(pair.rtp.detach(), pair.rtcp.detach()) for pair in (agent, prospect)]
        try:
            return self._relay.open(descriptors[0], descriptors[1])
        except OSError as error:
            self._ports.cancel(agent)
            self._ports.cancel(prospect)
            raise MediaError(f"the relay cannot take another session: {error}") from error

    def _forget(self, session: NativeMediaSession) -> None:
        self._sessions.pop(session.relay, None)
        for side in _SIDES_OF[CaptureMode.BOTH]:
            self._ports.release(session.local(side))

    def close(self, timeout: float) -> None:
        """See the protocol. Idempotent."""
        self._closed = True
        deadline = time.monotonic() + timeout
        finished = [session.close({"reason": "media engine closed"}) for session in list(self._sessions.values())]
        wait(finished, timeout)
        self._player.close()
        self._relay.close()
        self._recorder.close(max(0.0, deadline - time.monotonic()))


def _why(fallback: str) -> dict[str, str]:
    return {"io_uring": fallback} if fallback else {}


def _leg_stats(counters: LegCounters) -> LegStats:
    values = dict(counters)
    del values["send_failed"]
    values["far_end"] = None if counters["far_end"] is None else Address(*counters["far_end"])
    return LegStats(**values)  # type: ignore[arg-type]
