"""Loss concealment by ITU-T G.711 Appendix I, at any sample rate: the last pitch periods are repeated, and fade out.

For a recording the audio on both sides of a gap is known, and nothing has to be there in time: the algorithm's own
delay (3.75 ms) is none here. One ``Erasure`` fills one gap, however the gap is cut into pieces.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Signal = NDArray[np.float64]

LONGEST_SECONDS: Final = 0.06
"""A gap is filled for so long; what is left of it is silence."""
HISTORY_SECONDS: Final = 0.04875
"""What of the past is looked at: three longest pitch periods, and a quarter of one."""

_FRAME: Final = 0.01
_LEAST_PITCH, _MOST_PITCH, _CORRELATION = 0.005, 0.015, 0.02
_ATTENUATION: Final = 0.2
"""Of each 10 ms after the first."""
_MERGE_MORE: Final = 0.004
"""The overlap at the end grows by this with each 10 ms of the gap, up to 10 ms."""


def pitch_of(history: NDArray[Any], rate: int) -> int:
    """The pitch period in samples: the greatest normalized cross-correlation of the last 20 ms with what came 5 to
    15 ms before."""
    signal = np.asarray(history, dtype=np.float64)
    length, least, most = round(_CORRELATION * rate), round(_LEAST_PITCH * rate), round(_MOST_PITCH * rate)
    recent = signal[-length:]
    past = signal[-length - most : -least]
    match = np.correlate(past, recent, "valid")
    squares = np.concatenate(([0.0], np.cumsum(past * past)))
    energy = np.maximum(squares[length:] - squares[:-length], 250.0)
    return most - int(np.argmax(match / np.sqrt(energy)))


class Erasure:
    """One gap. ``history`` are the samples just before it, at least ``HISTORY_SECONDS`` of them, shorter counts as
    silence before."""

    def __init__(self, history: Samples, rate: int) -> None:
        needed = round(HISTORY_SECONDS * rate) + 1
        past = np.zeros(needed)
        past[needed - min(needed, len(history)) :] = history[-needed:]
        self._rate = rate
        self._frame = round(_FRAME * rate)
        self.pitch = pitch_of(past, rate)
        self.overlap = self.pitch // 4
        self._periods = [_ring(past, count * self.pitch, self.overlap) for count in (1, 2, 3)]
        self.tail: Samples = _rounded(self._periods[0][-self.overlap :])
        """What the last quarter of a pitch period before the gap becomes, so that it runs into the fill."""
        self._signal = self._synthesize()

    def _synthesize(self) -> Signal:
        """60 ms and the longest overlap after it: one period in the first 10 ms, then two, then three."""
        frames = []
        offset = 0
        for number in range(7):
            ring = self._periods[min(number, 2)]
            if number in (1, 2):
                before = self._periods[number - 1]
                crossing = _cycle(before, offset, self.overlap)
                offset %= self.pitch
                frame = _cycle(ring, offset, self._frame)
                ramp = np.arange(1, self.overlap + 1) / self.overlap
                frame[: self.overlap] = crossing * (1 - ramp) + frame[: self.overlap] * ramp
            else:
                frame = _cycle(ring, offset, self._frame)
            offset = (offset + self._frame) % len(ring)
            frames.append(frame)
        signal = np.concatenate(frames)
        signal[self._frame :] *= self._gains(len(signal) - self._frame)
        return signal

    def _gains(self, count: int) -> Signal:
        """20 % less with each 10 ms, from the second 10 ms on."""
        return np.clip(1 - _ATTENUATION * np.arange(1, count + 1) / self._frame, 0, None)

    @property
    def length(self) -> int:
        """How many samples are filled at most."""
        return round(LONGEST_SECONDS * self._rate)

    def fill(self, offset: int, count: int) -> Samples:
        """Samples ``offset`` to ``offset + count`` of the gap."""
        out = np.zeros(count)
        piece = self._signal[offset : min(offset + count, self.length)]
        out[: len(piece)] = piece
        return _rounded(out)

    def merge(self, after: Samples, gap: int) -> Samples:
        """The first samples ``after`` a gap of ``gap`` samples, with the fill running out in them."""
        count = min(self.merge_length(gap), len(after))
        out = after.astype(np.float64)
        if count:
            ramp = np.arange(1, count + 1) / count
            running_out = np.zeros(count)
            piece = self._signal[min(gap, len(self._signal)) : gap + count]
            running_out[: len(piece)] = piece
            out[:count] = running_out * (1 - ramp) + out[:count] * ramp
        return _rounded(out)

    def merge_length(self, gap: int) -> int:
        """How many samples after a gap ``merge`` changes."""
        frames = max(0, -(-gap // self._frame) - 1)
        return min(self._frame, self.overlap + frames * round(_MERGE_MORE * self._rate))


def _ring(past: Signal, length: int, overlap: int) -> Signal:
    """The last ``length`` samples, whose end runs into their beginning: what can be repeated."""
    ring = past[-length:].copy()
    ramp = np.arange(1, overlap + 1) / overlap
    ring[-overlap:] = past[-overlap:] * (1 - ramp) + past[-length - overlap : -length] * ramp
    return ring


def _cycle(ring: Signal, offset: int, count: int) -> Signal:
    """``count`` samples of an endless repetition."""
    return np.asarray(np.take(ring, np.arange(offset, offset + count), mode="wrap"))


def _rounded(signal: Signal) -> Samples:
    return np.clip(np.rint(signal), -32768, 32767).astype(np.int16)
