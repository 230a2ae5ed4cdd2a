"""Keys that an agent presses to control the gateway: a sequence pauses the capture, another one resumes it.

No key is kept for longer than it takes to tell a sequence, and none is written anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KEYS = frozenset("0123456789*#ABCD")
"""RFC 4733 §3.2: events 0 to 15."""
LONGEST_GAP = 5.0
"""Seconds between two keys of one sequence."""


class Control(StrEnum):
    """What a sequence means."""

    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class ControlKeys:
    """The sequences, each of ``KEYS``; "" switches one off. The same one for both toggles."""

    pause: str = ""
    resume: str = ""


class KeyLine:
    """The keys of one leg."""

    def __init__(self, keys: ControlKeys) -> None:
        self._keys = keys
        self._longest = max(len(keys.pause), len(keys.resume))
        self._pressed = ""
        self._last = 0.0

    def press(self, key: str, now: float, *, paused: bool) -> Control | None:
        """A key at a time in seconds; what a sequence that ends with it means."""
        if key not in KEYS or not self._longest:
            return None
        if now - self._last > LONGEST_GAP:
            self._pressed = ""
        self._last = now
        self._pressed = (self._pressed + key)[-self._longest :]
        for control, sequence in ((Control.PAUSE, self._keys.pause), (Control.RESUME, self._keys.resume)):
            if sequence and self._pressed.endswith(sequence):
                self._pressed = ""
                if self._keys.pause == self._keys.resume:
                    return Control.RESUME if paused else Control.PAUSE
                return control
        return None


def key_of_info(content_type: str, body: bytes) -> str:
    """The key in an INFO of type application/dtmf-relay (``Signal=5``) or application/dtmf (``5``); "" for none."""
    text = body[:256].decode("latin-1")
    if content_type == "application/dtmf":
        return _key(text)
    for line in text.replace("\r", "\n").split("\n"):
        name, _, value = line.partition("=")
        if name.strip().lower() == "signal":
            return _key(value)
    return ""


def _key(text: str) -> str:
    """A key by its name, or by its number as RFC 4733 counts."""
    name = text.strip().upper()
    named = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D", "STAR": "*", "POUND": "#"}.get(
        name, name
    )
    return named if named in KEYS and len(named) == 1 else ""


def control_of_header(value: str | None) -> Control | None:
    """The header ``Record: on`` or ``Record: off`` of an INFO, as desk phones with a record key send it."""
    words = {"off": Control.PAUSE, "pause": Control.PAUSE, "on": Control.RESUME, "resume": Control.RESUME}
    return words.get((value or "").strip().lower())
