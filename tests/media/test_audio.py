"""Every codec on the recording: how true it is, where it stands, and what losses, changes and pauses leave of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.codecs import ULAW, format_of, opus_ticks
from media.decoders import L16Decoder, OpusDecoder, decoder_for
from media.engine import Codec
from media.resample import resample
from media.timeline import LegTimeline
from tests.support.encoders import (
    CODECS,
    SAMPLE_RATES,
    Samples,
    continued,
    encode,
    sent,
    snr,
    speech,
    tone,
    without,
)
from tests.support.rtp_stream import Captured, in_order_of_arrival

START = 10**15
SECOND = 10**9
HOLD = 0.6


def record(
    packets: Sequence[Captured], seconds: float, rate: int, *, step: float = 1.0, line: LegTimeline | None = None
) -> tuple[LegTimeline, Samples]:
    """A leg's samples, drained and written in steps as the recorder does it."""
    line = line or LegTimeline(START, rate)
    line.set_codecs(CODECS, START)
    queue, index, now, parts = in_order_of_arrival(packets), 0, 0, []
    while now < seconds * SECOND:
        now += int(step * SECOND)
        batch = []
        while index < len(queue) and queue[index].at < now:
            batch.append(queue[index].record(START))
            index += 1
        line.feed(b"".join(batch))
        parts.append(line.take(max(0, int((now / SECOND - HOLD) * rate))))
    line.feed(b"".join(packet.record(START) for packet in queue[index:]))
    parts.append(line.take(max(int(seconds * rate), sum(map(len, parts)))))
    return line, np.concatenate(parts)[: int(seconds * rate)]


QUALITY = {0: 33, 8: 33, 9: 35, 96: 15, 97: 60, 98: 60, 11: 50}
"""Least SNR in dB by payload type, of a voice at the codec's own rate. G.711's own is about 38, G.722's 40; Opus
codes no waveform, so that its figure says little more than that it is this voice, at this place."""


@pytest.mark.parametrize("pt", QUALITY)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_each_codec_is_true_and_in_its_place(pt: int, rate: int) -> None:
    source = SAMPLE_RATES[pt]
    said = speech(5, source)
    line, heard = record(sent(pt, said, begin_ns=SECOND // 4), 5.5, rate)
    wanted = np.zeros(len(heard), dtype=np.int16)
    exact = said if source == rate else resample(said, 0, 0, 5 * rate, source, rate)
    wanted[rate // 4 : rate // 4 + len(exact)] = exact[: len(wanted) - rate // 4]
    spoken = slice(rate // 3, 5 * rate)
    quality, lag = snr(wanted[spoken], heard[spoken], rate // 50)
    assert quality > QUALITY[pt]
    assert 0 <= lag <= rate * 7 // 1000  # a codec's own delay: G.722 1.4 ms, Opus 6.5 ms
    assert (line.counts.placed, line.counts.undecodable, line.counts.late) == (250, {}, 0)
    assert line.gaps(5 * rate)[0] == [(0, rate // 4)]
    assert line.concealed(5 * rate)[0] == []


@pytest.mark.parametrize(("pt", "hertz"), [(9, 6000.0), (96, 6000.0), (97, 6000.0)])
def test_what_is_wideband_is_there_in_a_file_of_16_khz(pt: int, hertz: float) -> None:
    """Above 4 kHz too, and not folded down in a file of 8 kHz."""
    packets = sent(pt, tone(hertz, 3, SAMPLE_RATES[pt]))
    _, wide = record(packets, 3, 16000)
    _, narrow = record(packets, 3, 8000)
    power = np.abs(np.fft.rfft(wide[8000:40000].astype(float) * np.hanning(32000)))
    assert abs(np.argmax(power) * 16000 / 32000 - hertz) < 2
    assert np.std(narrow[4000:20000].astype(float)) < np.std(wide[8000:40000].astype(float)) / 100


@pytest.mark.parametrize("milliseconds", [10, 20, 40, 60])
@pytest.mark.parametrize("pt", [9, 96, 97])
def test_packets_of_any_length(pt: int, milliseconds: int) -> None:
    rate = SAMPLE_RATES[pt]
    said = speech(3, rate)
    line, heard = record(sent(pt, said, milliseconds=milliseconds), 3, 16000)
    wanted = said if rate == 16000 else resample(said, 0, 0, 3 * 16000, rate, 16000)
    assert snr(wanted[:40000], heard[:40000], 320)[0] > min(QUALITY[pt], 14)
    assert line.gaps(2 * 16000)[0] == []


def test_l16_is_big_endian_and_two_channels_become_their_mean() -> None:
    assert list(L16Decoder(1).decode(b"\x01\x02\xff\xfe\x00")) == [0x0102, -2]
    assert list(L16Decoder(2).decode(b"\x00\x64\x00\x02\x7f\xff\x7f\xff\x80\x00\x80\x00\x00")) == [51, 32767, -32768]


@pytest.mark.parametrize(
    ("payload", "ticks"),
    [(b"\x08", 960), (b"\x00", 480), (b"\x18", 2880), (b"\x0b\x02", 1920), (b"\x80", 120), (b"\xf8", 960),
     (b"\xf9", 1920), (b"\x7a", 1920), (b"\xfb\x06", 5760), (b"\xfb\x07", 0), (b"\xfb", 0), (b"", 0), (b"\x1b\x03", 0)],
)  # fmt: skip
def test_the_duration_of_an_opus_packet(payload: bytes, ticks: int) -> None:
    """RFC 6716 §3.1; 120 ms at most (§3.2.5)."""
    assert opus_ticks(payload) == ticks


@pytest.mark.parametrize(
    ("codec", "file_rate"),
    [(Codec("PCMU", 8000), 8000), (Codec("PCMA", 8000), 8000), (Codec("G722", 8000), 16000),
     (Codec("OPUS", 48000, 2), 16000), (Codec("L16", 8000), 8000), (Codec("L16", 16000), 16000),
     (Codec("L16", 11025), 16000), (Codec("L16", 44100, 2), 44100), (Codec("AMR", 8000), None),
     (Codec("AMR-WB", 16000), None), (Codec("G729", 8000), None), (Codec("GSM", 8000), None),
     (Codec("L16", 8001), None), (Codec("PCMU", 16000), None), (Codec("L16", 8000, 6), None)],
)  # fmt: skip
def test_which_codecs_are_decoded_and_for_which_file(codec: Codec, file_rate: int | None) -> None:
    found = format_of(codec)
    assert (found.file_rate if found is not None else None) == file_rate


# -- loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pt", [0, 9, 96, 97])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_loss_of_up_to_60_ms_is_concealed_and_said(pt: int, count: int) -> None:
    rate = SAMPLE_RATES[pt]
    steady = tone(150, 4, rate) + tone(300, 4, rate, 3000) + tone(450, 4, rate, 2000)
    packets = sent(pt, steady)
    line, heard = record(without(packets, *range(100, 100 + count)), 4, 16000)
    _, whole = record(packets, 4, 16000)
    hole = (2 * 16000, 2 * 16000 + count * 320)
    assert line.gaps(4 * 16000)[0] == [hole]
    assert line.concealed(4 * 16000)[0] == [hole]
    part = slice(*hole)
    wanted = whole[part].astype(float)
    better = 10 * np.log10(np.mean(wanted**2) / np.mean((heard[part] - wanted) ** 2))
    assert better > (8, 4, 2)[count - 1]
    steps = np.abs(np.diff(heard[hole[0] - 800 : hole[1] + 800].astype(int)))
    assert steps.max() < 1.6 * np.abs(np.diff(whole.astype(int))).max()


@pytest.mark.parametrize("pt", [0, 9, 96])
def test_a_longer_loss_fades_to_silence(pt: int) -> None:
    rate = SAMPLE_RATES[pt]
    line, heard = record(without(sent(pt, tone(200, 5, rate)), *range(100, 120)), 5, 16000)
    assert line.gaps(5 * 16000)[0] == [(32000, 38400)]
    assert line.concealed(5 * 16000)[0] == [(32000, 32960)]
    assert np.abs(heard[32000:32160]).max() > 4000
    assert np.abs(heard[32800:32960].astype(int)).max() < 2000
    assert np.abs(heard[33000:38300]).max() <= 1
    assert np.abs(heard[39000:40000]).max() > 4000


@pytest.mark.parametrize("step", [0.02, 0.1, 0.5, 1.0])
def test_how_often_it_is_written_changes_no_concealment(step: float) -> None:
    packets = without(sent(0, speech(5, 8000)), 60, 61, 62, 111, *range(150, 158), 190)
    line, heard = record(packets, 5, 8000, step=step)
    assert line.gaps(5 * 8000)[0] == [(9600, 10080), (17760, 17920), (24000, 25280), (30400, 30560)]
    assert line.concealed(40000)[0] == [(9600, 10080), (17760, 17920), (24000, 24480), (30400, 30560)]
    whole = record(packets, 5, 8000)[1]
    assert np.array_equal(heard, whole)


def test_a_loss_longer_than_the_hold_fades_too() -> None:
    """What comes after it is not there yet when its beginning has to be written."""
    line, heard = record(without(sent(0, tone(200, 6, 8000)), *range(100, 200)), 6, 8000)
    assert line.concealed(6 * 8000)[0] == [(16000, 16480)]
    assert np.abs(heard[16000:16080]).max() > 4000
    assert not heard[16480:32000].any()


def test_a_pause_of_the_sender_is_silence_and_no_loss() -> None:
    """Silence suppression: sequence numbers go on, timestamps jump, the marker tells the talk spurt (RFC 3551 §4.1)."""
    first = sent(0, tone(300, 2, 8000))
    second = continued(sent(0, tone(300, 2, 8000), begin_ns=int(2.3 * SECOND)), first, 160 + 2400)
    line, heard = record(first + second, 5, 8000)
    assert line.gaps(int(4.3 * 8000))[0] == [(16000, 18400)]
    assert line.concealed(5 * 8000)[0][:1] in ([], [(34400, 34880)])  # after the end of all, at most
    assert not heard[16000:18400].any()


def test_comfort_noise_takes_a_number_and_no_place() -> None:
    """RFC 3389: one CN packet in the pause is never captured; its sequence number is missing, its time is silence."""
    first = sent(9, speech(2, 16000))
    second = continued(sent(9, speech(2, 16000, 2), begin_ns=int(2.4 * SECOND)), first, 160 + 3200)
    second = [replace(packet, seq=packet.seq + 1) for packet in second]
    line, heard = record(first + second, 5, 16000)
    assert line.gaps(int(4.3 * 16000))[0] == [(32000, 38400)]
    assert not heard[32100:38300].any()
    assert snr(speech(2, 16000, 2)[8000:30000], heard[46400:68400], 100)[0] > 30


def gilbert_elliott(count: int, seed: int, to_bad: float = 0.03, to_good: float = 0.35, loss: float = 0.8) -> list[int]:
    """Indices that are lost: a channel with a good state and a bad one, in which most is lost."""
    draw, bad, gone = random.Random(seed), False, []
    for index in range(count):
        bad = draw.random() < (1 - to_good if bad else to_bad)
        if bad and draw.random() < loss:
            gone.append(index)
    return gone


@pytest.mark.parametrize("pt", [0, 9, 96])
def test_bursts_of_loss_jitter_reordering_and_duplicates(pt: int) -> None:
    """Gilbert-Elliott loss of about 6 %, jitter up to 500 ms, and 2 % sent twice: every hole is in the list, of its
    length, nothing is late, and what did come is as it was said."""
    rate, seconds = SAMPLE_RATES[pt], 20
    said = speech(seconds, rate)
    draw = random.Random(pt)
    jitter = [0.5 * draw.random() ** 3 for _ in range(seconds * 50)]
    packets = sent(pt, said, delay=lambda index: jitter[index])
    gone = [index for index in gilbert_elliott(len(packets), 7 + pt) if index > 5]
    assert 20 < len(gone) < 200
    arrived = without(packets, *gone)
    doubled = [replace(packet, at=packet.at + 3_000_000) for packet in arrived if draw.random() < 0.02]
    line, heard = record(arrived + doubled, seconds, 16000)
    counts = line.settle()
    assert (counts.late, counts.duplicate, counts.expected - counts.unique) == (0, len(doubled), len(gone))
    lost = sum(end - begin for begin, end in line.gaps(seconds * 16000)[0])
    assert lost == pytest.approx(320 * len(gone), abs=320)
    concealed = line.concealed(seconds * 16000)[0]
    assert all(end - begin <= 960 for begin, end in concealed)
    bursts = sum(index - 1 not in gone for index in gone)
    assert len(concealed) == bursts
    _, whole = record(packets, seconds, 16000)
    same = np.ones(len(heard), dtype=bool)
    for begin, end in line.gaps(seconds * 16000)[0]:
        same[max(0, begin - 400) : end + (400 if pt == 0 else 4000)] = False
    difference = (heard.astype(float) - whole)[same]
    assert 10 * np.log10(np.mean(whole[same].astype(float) ** 2) / max(1e-9, np.mean(difference**2))) > 25


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([0, 8, 9, 97]), st.floats(0, 0.5), st.floats(0, 0.3),
    st.sampled_from([0.1, 0.5, 1.0]),
)  # fmt: skip
def test_any_network_within_the_hold(seed: int, pt: int, spread: float, loss: float, step: float) -> None:
    """Whatever comes in whatever order: the gaps are the losses, and what came stands where it was said."""
    draw = random.Random(seed)
    rate = SAMPLE_RATES[pt]
    packets = sent(pt, speech(4, rate, 3))
    kept = [i for i in range(len(packets)) if i < 3 or i == len(packets) - 1 or draw.random() >= loss]
    arrived = [
        replace(packets[i], at=packets[i].at + (int(draw.random() * spread * SECOND) if i > 2 else 0)) for i in kept
    ]
    line, heard = record(arrived, 4, rate, step=step)
    size = rate // 50
    gone = [i for i in range(len(packets)) if i not in set(kept)]
    assert sum(end - begin for begin, end in line.gaps(4 * rate)[0]) == size * len(gone)
    if pt in (0, 8, 97):  # no state: bit for bit, away from where a fill runs out
        _, whole = record(packets, 4, rate)
        for index in kept:
            if index - 1 in kept and index + 1 in kept:
                part = slice(index * size, (index + 1) * size)
                assert np.array_equal(heard[part], whole[part])


def test_opus_is_told_of_what_was_lost() -> None:
    """The decoder's state moves on with the loss: what follows is right sooner than without."""
    said = speech(4, 48000)
    payloads = encode(96, said)
    true = OpusDecoder()
    reference = [true.decode(payload) for payload in payloads]
    errors = []
    for told in (True, False):
        decoder = OpusDecoder()
        for payload in payloads[:60]:
            decoder.decode(payload)
        if told:
            decoder.lost(3)
        after = np.concatenate([decoder.decode(payload) for payload in payloads[63:66]]).astype(float)
        errors.append(float(np.mean((after - np.concatenate(reference[63:66])) ** 2)))
    assert errors[0] < errors[1]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([9, 96, 97, 98, 11]), st.lists(st.binary(max_size=300), max_size=12))
def test_garbage_is_never_an_exception(pt: int, payloads: list[bytes]) -> None:
    format_ = format_of(CODECS[pt])
    assert format_ is not None
    decoder = decoder_for(format_)
    for payload in payloads:
        assert decoder.decode(payload).dtype == np.int16
        decoder.lost(len(payload))


def test_damaged_packets_are_counted_and_the_next_is_heard() -> None:
    packets = sent(96, speech(3, 48000))
    broken = [replace(p, payload=b"\xff\xff\xff") if 50 <= i < 55 else p for i, p in enumerate(packets)]
    line, heard = record(broken, 3, 16000)
    assert line.settle().undecodable == {"OPUS": 5}
    assert np.abs(heard[20000:]).max() > 1000


# -- changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [0, 9, 96, 97])
@pytest.mark.parametrize("two", [0, 8, 9, 96, 97])
def test_a_change_of_codec_in_the_call_moves_nothing(one: int, two: int) -> None:
    """One SSRC goes on with another codec, its timestamps in the new codec's clock (RFC 7160)."""
    if one == two:
        return
    voice = {rate: speech(6, rate) for rate in (8000, 16000, 48000)}
    packets = []
    for pt, begin in ((one, 0), (two, 3), (one, 4.5)):
        rate = SAMPLE_RATES[pt]
        part = voice[rate][int(begin * rate) : int((begin + (3 if begin == 0 else 1.5)) * rate)]
        piece = sent(pt, part, begin_ns=int(begin * SECOND))
        if packets:
            piece = continued(piece, packets, CODECS[packets[-1].pt].clock_rate // 50)
        packets += piece
    line, heard = record(packets, 6, 16000)
    wanted = resample(voice[48000], 0, 0, 6 * 16000, 48000, 16000)
    for begin, pt in ((0.5, one), (3.2, two), (4.8, one)):
        part = slice(int(begin * 16000), int((begin + 1.1) * 16000))
        quality, lag = snr(wanted[part], heard[part], 160)
        assert quality > (12 if pt == 96 else 15), (begin, pt)
        assert 0 <= lag <= 112, (begin, pt)
    assert line.gaps(int(5.9 * 16000))[0] == []
    assert line.concealed(int(5.9 * 16000))[0] == []


def test_an_undecodable_stretch_is_silence_of_its_length() -> None:
    first = sent(9, speech(2, 16000))
    middle = [replace(p, pt=18, payload=bytes(20)) for p in sent(0, speech(1, 8000), begin_ns=2 * SECOND)]
    middle = continued(middle, first, 160)
    last = continued(sent(9, speech(2, 16000, 2), begin_ns=3 * SECOND), middle, 160)
    kept: list[object] = []
    line = LegTimeline(START, 16000, keep=kept.append)
    _, heard = record(first + middle + last, 5, 16000, line=line)
    assert line.counts.undecodable == {"G729": 50}
    assert len(kept) == 50
    assert line.gaps(int(4.9 * 16000))[0] == [(32000, 48000)]
    assert not heard[32200:47800].any()
    assert snr(speech(2, 16000, 2)[8000:28000], heard[56000:76000], 100)[0] > 30


@pytest.mark.parametrize("ppm", [200.0, -200.0])
@pytest.mark.parametrize("pt", [9, 97])
def test_skew_is_followed_at_16_khz_too(pt: int, ppm: float) -> None:
    """Ten minutes: 120 ms of skew, of which no more than 10 may be left at any time."""
    seconds, rate = 600, 16000
    clicks = range(5, seconds - 5, 5)
    said = np.zeros(seconds * rate, dtype=np.int16)
    for click in clicks:
        at = int(click * rate * (1 + ppm * 1e-6))
        said[at : at + 160] = tone(1000, 0.01, rate, 20000)
    draw = random.Random(5)
    line, heard = record(sent(pt, said, ppm=ppm, delay=lambda index: draw.random() * 0.01), seconds, rate)
    loud = np.flatnonzero(np.abs(heard.astype(int)) > 6000)
    found = loud[np.insert(np.diff(loud) > 1000, 0, True)]
    assert len(found) == len(clicks)
    assert np.abs(found - np.array(clicks) * rate).max() <= 160
    assert line.counts.late == 0


def test_the_rate_of_what_is_heard() -> None:
    for pt, rate in ((0, 8000), (9, 16000), (96, 16000), (97, 16000), (18, 8000)):
        line = LegTimeline(START)
        line.set_codecs(CODECS, START)
        assert line.heard_rate() is None
        packets = sent(pt if pt != 18 else 0, speech(1, SAMPLE_RATES.get(pt, 8000)))
        line.feed(b"".join(replace(packet, pt=pt).record(START) for packet in packets))
        assert line.heard_rate() == rate


def test_the_first_packet_that_began_before_the_recording() -> None:
    said = speech(2, 16000)
    _, heard = record(sent(9, said, begin_ns=-13_000_000), 1.9, 16000)
    assert snr(said[208 : 208 + 28000], heard[:28000], 60)[0] > 30
    line, law = record(sent(0, speech(2, 8000), begin_ns=-13_000_000), 1.9, 8000)
    payload = b"".join(encode(0, speech(2, 8000)))
    assert np.array_equal(law[:12000], ULAW[np.frombuffer(payload, np.uint8)][104:12104])
