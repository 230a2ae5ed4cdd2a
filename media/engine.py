"""The media engine as the call logic sees it: the protocol that ``gateway.b2bua`` is written against.

A call has one :class:`MediaSession` with two legs. Each leg has its own RTP port (even) and RTCP port (RTP + 1,
RFC 3550 §11). Packets that arrive on one leg leave from the other leg's port towards the other leg's far end.
Capture exists only between :meth:`MediaSession.start_capture` and :meth:`MediaSession.close`, and only for the legs
that the capture mode names: a leg that may not be captured has no ring to be copied into.

All methods are thread-safe against the relay and the writer, never block on a disk, and are called from one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from media.keys import PressedKey

if TYPE_CHECKING:
    from media.announcement import Announcement
    from media.quality import SessionQuality


class CaptureMode(StrEnum):
    """Which legs may be captured; the values are those of the consent decision."""

    NONE = "none"
    AGENT_ONLY = "agent_only"
    BOTH = "both"

    @property
    def width(self) -> int:
        """How many legs are captured: 0, 1 or 2."""
        return {"none": 0, "agent_only": 1, "both": 2}[self.value]


class Side(IntEnum):
    """A leg of the call; the value is its channel in a stereo recording."""

    AGENT = 0
    PROSPECT = 1

    @property
    def other(self) -> Side:
        return Side(1 - self)


class Outcome(StrEnum):
    """How a recording ended."""

    COMPLETE = "complete"
    DEGRADED = "degraded"
    FAILED = "failed"
    BLOCKED = "blocked"
    RECOVERED = "recovered"


class MediaError(Exception):
    """The engine could not do what was asked; ``sip_status`` is what the caller of the call should hear."""

    sip_status = 500


class NoPortsLeft(MediaError):
    """The configured port range has no free pair (RFC 3261 §21.5.4: 503)."""

    sip_status = 503


@dataclass(frozen=True, slots=True)
class Codec:
    """An RTP payload format: encoding name in upper case, RTP clock rate in Hz, channels (RFC 8866 §6.6 rtpmap)."""

    name: str
    clock_rate: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Address:
    """A transport address: an IPv4 or IPv6 literal without brackets, and a port in 1..65535."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What the recording is to be filed under and what its manifest repeats; every mapping is JSON-able.

    ``organization`` and ``call_id`` become path components (``[A-Za-z0-9._-]+``, not starting with a dot).
    ``decision`` is the consent answer with its trace; ``call`` holds direction, identities and SIP Call-IDs.
    """

    organization: str
    call_id: str
    decision: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LegStats:
    """Counters of one leg since the session was opened; packets *from* that leg's far end unless said otherwise."""

    received: int = 0
    received_bytes: int = 0
    forwarded: int = 0
    """Packets of this leg that were sent on to the other leg's far end."""
    dropped_source: int = 0
    """From an address that is not the leg's far end (RTP injection)."""
    dropped_malformed: int = 0
    dropped_no_target: int = 0
    """Valid, but the other leg had nowhere to send to yet (or is on hold)."""
    captured: int = 0
    """Packets copied into the leg's capture ring; 0 for ever where the leg has none."""
    captured_bytes: int = 0
    ring_lost: int = 0
    """Packets that should have been captured but found the ring full."""
    held_back: int = 0
    """Valid, but not for the other leg, which was being played something or held apart."""
    played: int = 0
    """Packets that were played to this leg."""
    rtcp_received: int = 0
    rtcp_forwarded: int = 0
    last_packet_ns: int = 0
    """CLOCK_MONOTONIC of the last accepted RTP packet, 0 when none came yet."""
    far_end: Address | None = None
    """Where this leg's packets come from: the latched source, else the signalled address."""


@dataclass(frozen=True, slots=True)
class SessionStats:
    agent: LegStats
    prospect: LegStats
    quality: Mapping[str, Any] = field(default_factory=dict)
    """``SessionQuality.as_dict`` of ``media.quality``, once the session is closed."""


@dataclass(frozen=True, slots=True)
class RecordingResult:
    """What became of a recording, once its manifest is in place (or could not be written)."""

    call_id: str
    organization: str
    outcome: Outcome
    mode: CaptureMode
    path: Path | None = None
    """The audio file; None where there is none (mode ``none``, or nothing could be written)."""
    manifest_path: Path | None = None
    channels: int = 0
    sample_rate: int = 0
    samples: int = 0
    """Samples per channel."""
    size_bytes: int = 0
    sha256: str | None = None
    problems: tuple[str, ...] = ()
    """What is missing or wrong, in plain words; empty for ``complete`` and ``blocked``."""


class MediaSession(Protocol):
    """The media of one call."""

    @property
    def mode(self) -> CaptureMode:
        """The capture mode in force; it starts as given to ``open`` and only narrows, but for ``admit_prospect``."""

    def local(self, side: Side) -> Address:
        """The address and RTP port to put into the SDP that is sent to ``side`` (RTCP is the port after it)."""

    def set_remote(self, side: Side, rtp: Address | None, rtcp: Address | None = None) -> None:
        """Where ``side`` wants its packets, as signalled; ``None`` stops sending to it (hold with ``c=0.0.0.0``).

        A changed address re-arms latching for that leg; the same address again changes nothing.
        ``rtcp`` defaults to the port after RTP (RFC 3605 may say otherwise).
        """

    def set_codecs(self, side: Side, codecs: Mapping[int, Codec]) -> None:
        """The payload types that packets *from* ``side`` may carry. Only PTs listed here, and not telephone-event,
        CN or another event format, are ever captured; all PTs are relayed."""

    def start_capture(self) -> None:
        """Sample 0 of the recording is now. Makes the rings that the mode allows, and the ``.part`` file. Idempotent.

        Never raises for a disk problem: the call goes on and the manifest or the log says what is missing.
        """

    @property
    def captured(self) -> frozenset[Side]:
        """The legs that have a capture ring now: audio of no other is copied."""

    def narrow(self, mode: CaptureMode, reason: str) -> None:
        """Narrow the capture at once: the rings that ``mode`` does not allow are gone when this returns.

        Raises ValueError if ``mode`` is wider than the present one. The file keeps its channel count.
        """

    def admit_prospect(self, decision: Mapping[str, Any], **details: object) -> None:
        """The one widening: from ``agent_only`` to ``both``, because the prospect has consented. The prospect's leg is
        captured from now on. ``decision`` is the new one, stored already; ``details`` go into the manifest.

        Raises ValueError if ``mode`` is not ``agent_only`` now, or capture has not started."""

    def pause(self, **details: object) -> None:
        """Capture nothing until ``resume``: the rings of all legs are gone when this returns, the file is silence from
        here on. ``details`` (who, how) go into the manifest. Before ``start_capture`` it means that capture begins
        paused. Idempotent."""

    def resume(self, **details: object) -> None:
        """Capture again what ``mode`` allows now. Idempotent; without a pause it does nothing."""

    @property
    def paused(self) -> bool:
        """Whether capture is paused."""

    def mark(self, event: str, **details: object) -> None:
        """Note an event (hold, resume, re-INVITE …) with its sample position for the manifest's ``events``."""

    def hold_apart(self, side: Side, apart: bool) -> None:
        """While ``apart``, ``side`` gets nothing of what the other leg sends; it is captured all the same."""

    def play(self, side: Side, announcement: Announcement, codecs: Mapping[int, Codec]) -> Future[int] | None:
        """Play to ``side``, whose far end takes these payload types, instead of what the other leg sends.

        The future has the number of packets that were sent, of ``announcement.seconds`` / 20 ms, when it is over (also
        by ``stop_playing`` or ``close``); it may be done in another thread. None: none of the codecs can be encoded, or
        something is being played to ``side`` already, or the session is closed."""

    def stop_playing(self) -> None:
        """End at once what is being played to either leg."""

    def listen(self, on_key: Callable[[Side, PressedKey], None]) -> None:
        """Tell ``on_key`` of every key that is pressed from now on (telephone-event, RFC 4733), and by whom.

        It is called within ``MediaEngine.deliver_keys``. Without a listener no key is kept anywhere."""

    def stats(self) -> SessionStats:
        """The counters now."""

    def quality(self) -> SessionQuality:
        """Loss, jitter, round trip and MOS of both legs until now; the last ones once the session is closed."""

    def close(self, termination: Mapping[str, Any]) -> Future[RecordingResult | None]:
        """Stop relaying, give the ports back (after a quarantine), finish the recording.

        Returns at once. The future is done when file and manifest are in place, or is None at once if capture never
        started. With mode ``none`` a started session yields a manifest without audio, outcome ``blocked``.
        ``termination`` (who hung up, SIP status, reason) goes into the manifest. Idempotent.
        """


class MediaEngine(Protocol):
    """Makes media sessions; owns relay threads, ports and the writer."""

    def open(
        self, *, agent_host: str, prospect_host: str, capture: CaptureMode, recording: RecordingRequest
    ) -> MediaSession:
        """Open two RTP/RTCP port pairs, the agent leg's on local address ``agent_host``, the prospect's likewise.

        Raises NoPortsLeft or MediaError; nothing is left open then.
        """

    @property
    def keys_fd(self) -> int:
        """A descriptor that is readable when ``deliver_keys`` has something to do; -1 once the engine is closed."""

    def deliver_keys(self) -> None:
        """Tell the sessions' listeners which keys were pressed. Returns at once when there are none."""

    def close(self, timeout: float) -> None:
        """Close every session and wait up to ``timeout`` seconds for the recordings to be finished."""
