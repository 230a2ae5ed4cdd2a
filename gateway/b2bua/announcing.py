"""Announcements of a call: played when it is answered, before its two ends hear each other; and the recording beep.

While announcements last both legs are held apart; who is not spoken to hears nothing. What was played, to whom and when
is noted in the manifest. What can't be played to a prospect has not been announced: of the prospect nothing is
captured then. The call goes on in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.b2bua.media_bridge import MediaBridge
from gateway.consent.asked import may_widen
from media.announcement import Announcement
from media.engine import CaptureMode, Side

log = structlog.get_logger("announcements")

PACKETS_PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class AnnouncementRule:
    """Which calls an announcement is played in, and to whom."""

    announcement: Announcement
    sides: tuple[Side, ...]
    modes: frozenset[str]
    """Decisions (``both``, ``agent_only``, ``none``) with which it is played."""
    organization: str = ""
    """"" is every one."""
    two_party_only: bool = False
    """Only where the prospect's location is two-party, or not known."""
    consent_key: str = ""
    """What the prospect presses to consent; such a one is played only where that can change something."""
    consent_seconds: float = 10.0

    def applies(self, organization: str, mode: str, reason: str, two_party: bool) -> bool:
        return (
            self.organization in ("", organization)
            and mode in self.modes
            and (two_party or not self.two_party_only)
            and (not self.consent_key or may_widen(mode, reason))
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A prospect has heard the whole of an announcement that asks for consent. Times in seconds of the call's clock."""

    key: str
    since: float
    until: float
    file: str
    sha256: str

    def consents(self, key: str, now: float) -> bool:
        """Whether a key of the prospect's is the answer, in time."""
        return bool(self.key) and key == self.key and self.since <= now <= self.until


@dataclass(frozen=True, slots=True)
class Beep:
    """The recording beep: while a call is captured, every ``seconds`` to these sides."""

    sound: Announcement
    sides: tuple[Side, ...]
    seconds: float


class AnnouncingHost(Protocol):
    """What announcing needs beside the call."""

    def clock(self) -> float:
        """Seconds."""

    def later(self, work: Callable[[], None]) -> None:
        """Run ``work`` in the call's own thread; may be called from any thread."""


class Announcing:
    """One call's announcements, in order. ``over`` is called once, when the legs hear each other."""

    def __init__(
        self, call_id: str, bridge: MediaBridge, rules: Sequence[AnnouncementRule], host: AnnouncingHost,
        over: Callable[[], None],
    ) -> None:  # fmt: skip
        self._call_id = call_id
        self._bridge = bridge
        self._left = list(rules)
        self._host = host
        self._over = over
        self._begun = False
        self._stopped = False
        self.asked: Asked | None = None
        if self._left:
            self._apart(True)

    @property
    def active(self) -> bool:
        """Whether there is something still to be played."""
        return not self._stopped

    def begin(self) -> None:
        """Play, now that both legs have agreed on their media. Idempotent; does nothing as long as they have not."""
        if not self._begun and not self._stopped and self._bridge.agreed:
            self._begun = True
            self._next()

    def stop(self) -> None:
        """The call is over."""
        self._stopped = True

    def _apart(self, apart: bool) -> None:
        for side in Side:
            self._bridge.media.hold_apart(side, apart)

    def _next(self) -> None:
        if self._stopped:
            return
        if not self._left:
            self._stopped = True
            self._apart(False)
            self._over()
            return
        rule = self._left.pop(0)
        playing = {side: self._begin_one(rule.announcement, side) for side in rule.sides}
        waiting = {side: future for side, future in playing.items() if future is not None}
        if not waiting:
            self._next()
        for side, future in tuple(waiting.items()):
            future.add_done_callback(self._ended(rule, side, waiting))

    def _begin_one(self, announcement: Announcement, side: Side) -> Future[int] | None:
        playing = self._bridge.play(side, announcement)
        about = {"leg": side.name.lower(), "file": announcement.name, "sha256": announcement.sha256}
        if playing is not None:
            self._bridge.media.mark("announcement", **about, seconds=round(announcement.seconds, 3))
        else:
            log.warning("announcement could not be played", call_id=self._call_id, **about)
            self._bridge.media.mark("announcement_failed", **about)
            self._unannounced(side)
        return playing

    def _ended(
        self, rule: AnnouncementRule, side: Side, waiting: dict[Side, Future[int]]
    ) -> Callable[[Future[int]], None]:
        return lambda done: self._host.later(lambda: self._one_over(rule, side, waiting, done.result()))

    def _one_over(self, rule: AnnouncementRule, side: Side, waiting: dict[Side, Future[int]], sent: int) -> None:
        if self._stopped:
            return
        announcement = rule.announcement
        waiting.pop(side)
        packets = -(-len(announcement.samples) * PACKETS_PER_SECOND // announcement.rate)
        heard = round(sent / PACKETS_PER_SECOND, 3)
        self._bridge.media.mark(
            "announcement_end", leg=side.name.lower(), file=announcement.name, sha256=announcement.sha256,
            played_seconds=min(heard, round(announcement.seconds, 3)), complete=sent >= packets,
        )  # fmt: skip
        if side is Side.PROSPECT and rule.consent_key and sent >= packets:
            now = self._host.clock()
            until = now + rule.consent_seconds
            self.asked = Asked(rule.consent_key, now, until, announcement.name, announcement.sha256)
        if sent == 0:
            self._unannounced(side)
        if not waiting:
            self._next()

    def _unannounced(self, side: Side) -> None:
        media = self._bridge.media
        if side is Side.PROSPECT and media.mode is CaptureMode.BOTH:
            media.narrow(CaptureMode.AGENT_ONLY, "the announcement could not be played to the prospect")
