"""Keys pressed on a leg, out of its telephone-events (RFC 4733): the same key however often its packets are repeated,
lost or reordered. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

KEYS: Final = "0123456789*#ABCD"
"""The key of each event code (RFC 4733 §3.2)."""
LONGEST_SEGMENT: Final = 0xFFFF
"""Of an event, in ticks; a longer one goes on as another event that begins where this one ended (RFC 4733 §2.5.1.3)."""
REMEMBERED: Final = 16
"""Events whose late packets are still known to be of them."""


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """One packet of an event: the fields of RFC 4733 §2.3, the RTP header's timestamp and SSRC, and when it came
    (CLOCK_MONOTONIC)."""

    code: int
    ended: bool
    duration: int
    """In ticks of the RTP clock."""
    timestamp: int
    ssrc: int
    arrival_ns: int


@dataclass(frozen=True, slots=True)
class PressedKey:
    """A key, and when its first packet came (CLOCK_MONOTONIC)."""

    key: str
    pressed_ns: int


class KeyEvents:
    """The events of one leg in order of arrival."""

    def __init__(self) -> None:
        self._known: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._last: TelephoneEvent | None = None

    def take(self, event: TelephoneEvent) -> PressedKey | None:
        """The key that begins with this packet, be it the first of its event or the first that was not lost."""
        if event.code >= len(KEYS):
            return None
        name = event.ssrc, event.timestamp
        last = self._last
        if name in self._known:
            if last is not None and name == (last.ssrc, last.timestamp):
                self._last = event
            return None
        self._known.append(name)
        self._last = event
        if last is not None and _goes_on(last, event):
            return None
        return PressedKey(KEYS[event.code], event.arrival_ns)


def _goes_on(last: TelephoneEvent, event: TelephoneEvent) -> bool:
    """Whether ``event`` is the next segment of a key that is still held down."""
    return (
        not last.ended
        and (last.code, last.ssrc) == (event.code, event.ssrc)
        and (event.timestamp - last.timestamp) % 2**32 == LONGEST_SEGMENT
    )
