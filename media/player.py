"""Plays prepared packets to legs, one every 20 ms, each stream in the one row that its far end sees (relay_player.pxd).

One thread serves all legs that are being played something, and sleeps while there are none. A packet that is late is
sent at once; after more than ``LATEST`` of delay (the machine slept) the rest is moved on instead of rushed.
"""

from __future__ import annotations

import heapq
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

log = structlog.get_logger(__name__)

PACKET_NS: Final = 20_000_000
"""What one packet holds."""
LATEST: Final = 200_000_000


class Line(Protocol):
    """What is played into: ``media.relay.Session``."""

    def begin_playing(
        self, side: int, clock: int, ticks: int, ssrc: int, sequence: int, timestamp: int, now: int = 0
    ) -> None: ...

    def play(self, side: int, payload_type: int, payload: bytes, first: bool, now: int = 0) -> bool: ...

    def end_playing(self, side: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Sound:
    """What is to be played, in a leg's own codec: payloads of 20 ms each and the payload type they go out with."""

    payload_type: int
    clock_rate: int
    """Hz, of the RTP timestamps."""
    payloads: Sequence[bytes]


@dataclass(slots=True, eq=False)
class Playing:
    """One sound on its way to one leg. ``done`` says how many packets were sent when it is over, however it ended."""

    line: Line
    side: int
    sound: Sound
    done: Future[int]
    at: int = 0
    sent: int = 0
    stopped: bool = False

    def step(self) -> bool:
        """Send the next packet. False: it was the last."""
        if self.line.play(self.side, self.sound.payload_type, self.sound.payloads[self.at], self.at == 0):
            self.sent += 1
        self.at += 1
        return self.at < len(self.sound.payloads)


class Player:
    """The thread. ``play`` and ``stop`` may be called from any thread; futures are done in the player's own, or in
    ``stop``'s caller's."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._due: list[tuple[int, int, Playing]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def play(self, line: Line, side: int, sound: Sound) -> Playing:
        """Begin to play; what the other leg sends is held back until the sound is over."""
        playing = Playing(line, side, sound, Future())
        ticks = sound.clock_rate * PACKET_NS // 10**9
        line.begin_playing(
            side, sound.clock_rate, ticks, secrets.randbits(32), secrets.randbits(16), secrets.randbits(32)
        )
        with self._changed:
            if self._closed or not sound.payloads:
                playing.stopped = True
            else:
                heapq.heappush(self._due, (self._clock(), next(self._count), playing))
                self._changed.notify()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="player", daemon=True)
                    self._thread.start()
        if playing.stopped:
            self._over(playing)
        return playing

    def stop(self, playing: Playing) -> None:
        """Not a packet more of it. Idempotent."""
        with self._changed:
            if playing.stopped or playing.done.done():
                return
            playing.stopped = True
        self._over(playing)

    def _over(self, playing: Playing) -> None:
        playing.line.end_playing(playing.side)
        playing.done.set_result(playing.sent)

    def _run(self) -> None:
        while (playing := self._next()) is not None:
            due, order, sounding = playing
            try:
                self._step(due, order, sounding)
            except Exception:
                log.exception("player defect")
                self.stop(sounding)

    def _next(self) -> tuple[int, int, Playing] | None:
        """What is due now, when it is; None: the end."""
        with self._changed:
            while not self._closed:
                if not self._due:
                    self._changed.wait()
                elif (wait := self._due[0][0] - self._clock()) > 0:
                    self._changed.wait(wait / 1e9)
                else:
                    return heapq.heappop(self._due)
        return None

    def _step(self, due: int, order: int, playing: Playing) -> None:
        with self._changed:
            if playing.stopped:
                return
            more = playing.step()
            playing.stopped = not more
            if more:
                late = self._clock() - due
                heapq.heappush(self._due, (due + PACKET_NS + (late if late > LATEST else 0), order, playing))
        if not more:
            self._over(playing)

    def close(self) -> None:
        """Stop everything and end the thread. Idempotent."""
        with self._changed:
            self._closed = True
            left = [playing for *_, playing in self._due]
            self._due.clear()
            self._changed.notify()
        for playing in left:
            self.stop(playing)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
