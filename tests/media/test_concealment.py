"""G.711 Appendix I: what fills a gap, how it fades, and that its ends are no clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.concealment import Erasure, pitch_of
from tests.support.encoders import Samples, speech

RATES = [8000, 16000, 48000]


def voice(hertz: float, rate: int, seconds: float = 1.0) -> Samples:
    """A steady voice: many harmonics of one pitch."""
    t = np.arange(int(seconds * rate)) / rate
    top = int(3400 // hertz)
    return sum(3000 / k * np.sin(2 * np.pi * hertz * k * t + k * k) for k in range(1, top)).astype(np.int16)


def concealed(samples: Samples, rate: int, begin: int, gap: int) -> Samples:
    """``samples`` with a gap that is filled."""
    erasure = Erasure(samples[max(0, begin - rate // 20) : begin], rate)
    out = samples.copy()
    out[begin - erasure.overlap : begin] = erasure.tail
    out[begin : begin + gap] = erasure.fill(0, gap)
    after = out[begin + gap : begin + gap + erasure.merge_length(gap)]
    after[:] = erasure.merge(after.copy(), gap)
    return out


def gain(samples: Samples, filled: Samples, part: slice) -> float:
    """How many dB nearer to the truth than silence."""
    wanted = samples[part].astype(float)
    return float(10 * np.log10(np.mean(wanted**2) / max(1.0, np.mean((filled[part] - wanted) ** 2))))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [75.0, 110.0, 145.0, 190.0])
def test_the_pitch_is_found(rate: int, hertz: float) -> None:
    """One period, or two where both lie within 5 to 15 ms: repeated, they sound alike."""
    periods = pitch_of(voice(hertz, rate)[-rate // 20 :], rate) * hertz / rate
    assert round(periods) in (1, 2)
    assert periods == pytest.approx(round(periods), rel=0.02)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("milliseconds", "decibels"), [(10, 15), (20, 10), (40, 6), (60, 3)])
def test_a_gap_in_a_steady_voice_is_filled_with_it(rate: int, milliseconds: int, decibels: float) -> None:
    samples = voice(120, rate)
    begin, gap = rate // 2 + 37, rate * milliseconds // 1000
    filled = concealed(samples, rate, begin, gap)
    assert gain(samples, filled, slice(begin, begin + gap)) > decibels


@pytest.mark.parametrize("rate", RATES)
def test_it_fades_to_silence_at_60_ms(rate: int) -> None:
    samples = voice(120, rate)
    begin, frame = rate // 2, rate // 100
    filled = concealed(samples, rate, begin, rate // 5)
    level = [float(np.sqrt(np.mean(filled[begin + i * frame : begin + (i + 1) * frame].astype(float) ** 2)))
             for i in range(20)]  # fmt: skip
    full = float(np.sqrt(np.mean(samples.astype(float) ** 2)))
    assert level[0] == pytest.approx(full, rel=0.3)
    for number, share in ((1, 0.9), (2, 0.7), (3, 0.5), (4, 0.3), (5, 0.1)):
        assert level[number] == pytest.approx(full * share, rel=0.35)
    assert not filled[begin + 6 * frame : begin + 20 * frame].any()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("milliseconds", [5, 10, 20, 30, 40, 55, 60, 100, 400])
def test_neither_end_is_a_click(rate: int, milliseconds: int) -> None:
    """No step between two samples is greater than the voice's own."""
    samples = voice(140, rate)
    begin, gap = rate // 3, rate * milliseconds // 1000
    filled = concealed(samples, rate, begin, gap)
    assert np.abs(np.diff(filled.astype(int))).max() <= 1.2 * np.abs(np.diff(samples.astype(int))).max()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RATES), st.integers(0, 3000), st.integers(1, 200), st.lists(st.integers(1, 700), max_size=8),
    st.integers(0, 2000),
)  # fmt: skip
def test_in_pieces_it_is_the_same(rate: int, begin: int, gap_ms: int, cuts: list[int], loud: int) -> None:
    """Whatever the history is, silence and too little of it too."""
    samples = (speech(1, rate) * (loud / 2000)).astype(np.int16)
    erasure = Erasure(samples[max(0, begin - 400) : begin], rate)
    gap = rate * gap_ms // 1000
    whole = erasure.fill(0, gap)
    at, pieces = 0, []
    for cut in [*cuts, gap]:
        cut = min(cut, gap - at)
        pieces.append(erasure.fill(at, cut))
        at += cut
    assert np.array_equal(np.concatenate(pieces), whole)
    assert not whole[erasure.length :].any()
    assert len(erasure.merge(samples[:10], gap)) == 10
