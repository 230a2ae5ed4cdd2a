"""Sample rate conversion by a polyphase windowed sinc (Kaiser window, 80 dB), without delay.

Output sample n is the input at n * down / up.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

ZEROS = 24
"""Zero crossings of the sinc on each side: 3.4 kHz pass and 4.2 kHz are gone where 4 kHz is the lower Nyquist rate."""
CUTOFF = 0.95
BETA = 7.86
FEW_PHASES = 8
BLOCK = 2048


def ratio(source: int, target: int) -> tuple[int, int]:
    """``up`` and ``down`` of a conversion between two rates in Hz, in lowest terms."""
    common = gcd(source, target)
    return target // common, source // common


@lru_cache(maxsize=64)
def _filter(up: int, down: int) -> NDArray[np.float32]:
    """The taps of each phase, shape (up, 2 * reach)."""
    narrower = min(1.0, up / down)
    reach = int(np.ceil(ZEROS / narrower))
    at = np.arange(2 * reach)[None, :] - (reach - 1) - np.arange(up)[:, None] / up
    window = np.i0(BETA * np.sqrt(np.clip(1 - (at / reach) ** 2, 0, None))) / np.i0(BETA)
    taps = np.sinc(CUTOFF * narrower * at) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), dtype=np.float32)


def reach_of(source: int, target: int) -> int:
    """How many input samples before and after its own time an output sample depends on."""
    return int(_filter(*ratio(source, target)).shape[1]) // 2


def resample(samples: Samples, origin: int, first: int, count: int, source: int, target: int) -> Samples:
    """Output samples ``first`` to ``first + count`` of a stream of which ``samples`` are those from ``origin`` on.

    Positions are counted from the same instant at both rates. What is outside of ``samples`` counts as silence.
    """
    up, down = ratio(source, target)
    taps = _filter(up, down)
    reach = taps.shape[1] // 2
    begin = first * down // up - reach + 1
    end = (first + count - 1) * down // up + reach + 1
    window = np.zeros(max(0, end - begin), dtype=np.float32)
    low, high = max(begin, origin), min(end, origin + len(samples))
    if low < high:
        window[low - begin : high - begin] = samples[low - origin : high - origin]
    out = np.zeros(count, dtype=np.float32)
    if up > FEW_PHASES:
        _add_rows(out, window, taps, first * down, down)
    for offset in range(min(up, count) if up <= FEW_PHASES else 0):
        at = (first + offset) * down
        _add_phase(out[offset::up], window[at // up - first * down // up :], taps[at % up], down)
    return np.clip(np.rint(out), -32768, 32767).astype(np.int16)


def _add_rows(
    out: NDArray[np.float32], window: NDArray[np.float32], taps: NDArray[np.float32], begin: int, down: int
) -> None:
    """Every output sample by itself, in blocks; ``begin`` is the first one's time in 1/up of an input sample."""
    up, width = taps.shape
    rows = np.lib.stride_tricks.sliding_window_view(window, width)
    for at in range(0, len(out), BLOCK):
        times = begin + np.arange(at, min(at + BLOCK, len(out))) * down
        out[at : at + BLOCK] = np.einsum("ij,ij->i", rows[times // up - begin // up], taps[times % up])


def _add_phase(out: NDArray[np.float32], window: NDArray[np.float32], taps: NDArray[np.float32], step: int) -> None:
    """Every output sample of one phase: tap by tap over all of them at once."""
    reach = (len(out) - 1) * step + 1
    for index, tap in enumerate(taps):
        out += tap * window[index : index + reach : step]
