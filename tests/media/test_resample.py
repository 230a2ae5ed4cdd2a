"""Sample rate conversion against sines that are computed at the target's rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.resample import reach_of, resample
from tests.support.encoders import tone

RATES = [(8000, 16000), (16000, 8000), (48000, 16000), (48000, 8000), (44100, 16000), (44100, 48000), (11025, 16000)]


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4])
def test_a_tone_is_the_same_tone_in_the_same_place(source: int, target: int, share: float) -> None:
    hertz = min(source, target) * share
    made = resample(tone(hertz, 2, source), 0, 0, 2 * target, source, target)
    wanted = tone(hertz, 2, target)
    middle = slice(target // 10, -target // 10)
    noise = made[middle].astype(float) - wanted[middle]
    assert 10 * np.log10(np.mean(wanted[middle].astype(float) ** 2) / max(1e-3, np.mean(noise**2))) > 70


@pytest.mark.parametrize(("source", "target"), [(16000, 8000), (48000, 16000), (48000, 8000), (44100, 16000)])
def test_what_the_target_cannot_hold_is_gone(source: int, target: int) -> None:
    made = resample(tone(target * 0.53, 1, source), 0, 0, target, source, target)
    assert np.abs(made[target // 10 : -target // 10]).max() <= 2  # of 8000: 72 dB


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(RATES), st.integers(50, 3000), st.integers(0, 2000))
def test_pieces_are_the_whole(rates: tuple[int, int], step: int, origin: int) -> None:
    """However it is cut, and wherever the samples that are at hand begin (before what is asked for)."""
    source, target = rates
    noise = np.random.default_rng(1).integers(-20000, 20000, source // 4).astype(np.int16)
    count = target // 4
    whole = resample(noise, 0, 0, count, source, target)
    pieces = []
    for first in range(0, count, step):
        begin = max(0, first * source // target - reach_of(source, target) - origin)
        pieces.append(resample(noise[begin:], begin, first, min(step, count - first), source, target))
    assert np.array_equal(np.concatenate(pieces), whole)


def test_a_constant_stays_the_constant() -> None:
    for source, target in RATES:
        level = np.full(source, 12345, dtype=np.int16)
        assert set(resample(level, 0, target // 4, target // 2, source, target)) == {12345}
