"""Decoded samples of one sample rate: a window that moves along the recording, with some of the past kept.

A leg has one plane, or more where it changes to a codec of another rate in mid-call. Whatever a plane has no audio for
is silence in it, so that the planes of a leg, brought to the file's rate, add up to the leg.
"""

from __future__ import annotations

import numpy as np

from media.codecs import Samples
from media.resample import resample

FIRST_SECONDS = 4
MOST_SECONDS = 64
PAST_SECONDS = 0.05
"""How much of what was taken is kept, for loss concealment and for the resampler."""


class Plane:
    """Positions are samples at ``rate`` since the recording began. ``base`` is the first that was not taken yet."""

    def __init__(self, rate: int, base: int = 0) -> None:
        self.rate = rate
        self.base = base
        self.end = base
        """One past the last sample that was put in."""
        self._past = round(PAST_SECONDS * rate)
        self._origin = base - self._past
        """The position of the buffer's first sample."""
        self._buffer: Samples = np.zeros(self._past + FIRST_SECONDS * rate, dtype=np.int16)

    def reach(self, end: int) -> bool:
        """Whether there is room up to position ``end``, after growing where that may be."""
        need = end - self._origin
        if need <= len(self._buffer):
            return True
        most = self._past + MOST_SECONDS * self.rate
        if need > most:
            return False
        larger = np.zeros(min(most, need * 2), dtype=np.int16)
        larger[: len(self._buffer)] = self._buffer
        self._buffer = larger
        return True

    def room(self, position: int, count: int) -> Samples:
        """``count`` samples from ``position`` on to be written by the caller. ``reach`` must have been true."""
        end = position + count
        if end > self.end:
            self.end = end
        return self._buffer[position - self._origin : end - self._origin]

    def put(self, position: int, samples: Samples) -> None:
        """Write samples; what lies before the kept past, or beyond all room, is left out."""
        skip = max(0, self._origin - position)
        if skip >= len(samples) or not self.reach(position + len(samples)):
            return
        self.room(position + skip, len(samples) - skip)[:] = samples[skip:]

    def get(self, position: int, count: int) -> Samples:
        """A copy; silence for what is not kept."""
        out = np.zeros(count, dtype=np.int16)
        low, high = max(position, self._origin), min(position + count, self._origin + len(self._buffer))
        if low < high:
            out[low - position : high - position] = self._buffer[low - self._origin : high - self._origin]
        return out

    def hold(self, begin: int, end: int) -> None:
        """Repeat the sample before ``begin`` up to ``end``."""
        if self.reach(end) and begin > self._origin:
            self.room(begin, end - begin)[:] = self._buffer[begin - 1 - self._origin]

    def take(self, begin: int, until: int, rate: int) -> Samples:
        """Samples ``begin`` to ``until`` at the file's ``rate``; ``begin`` is where the last call left off."""
        if rate == self.rate:
            begin, end = self._past, self._past + until - begin
            taken = self._buffer[begin:end].copy() if end <= len(self._buffer) else self._padded(end - begin)
            self._advance(until)
            return taken
        taken = resample(self._buffer, self._origin, begin, until - begin, self.rate, rate)
        self._advance(until * self.rate // rate)
        return taken

    def _padded(self, count: int) -> Samples:
        taken = np.zeros(count, dtype=np.int16)
        have = self._buffer[self._past :]
        taken[: len(have)] = have
        return taken

    def _advance(self, base: int) -> None:
        """Move the window on to ``base``."""
        count, buffer = base - self.base, self._buffer
        used = (self.end if self.end > base else base) - self._origin
        kept = min(len(buffer), used) - count
        if kept > 0:
            buffer[:kept] = buffer[count : count + kept]  # numpy sees to the overlap
            buffer[kept:used] = 0
        else:
            self._buffer = np.zeros(self._past + FIRST_SECONDS * self.rate, dtype=np.int16)
        self.base, self._origin = base, base - self._past
        if base > self.end:
            self.end = base
