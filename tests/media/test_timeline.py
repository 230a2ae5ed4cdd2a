"""RTP time to samples: what a network and a sender may do, and where the audio then stands."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.codecs import ULAW
from media.engine import Codec
from media.records import decode_steady, steady_arrival
from media.timeline import LegTimeline
from tests.support.rtp_stream import RATE, Captured, Taken, in_order_of_arrival, sound, stream, with_type

START = 10**15
SECOND = 10**9
CODECS = {0: Codec("PCMU", 8000), 8: Codec("PCMA", 8000), 18: Codec("G729", 8000)}


class Leg:
    """A timeline that is drained and written in steps, as the recorder does."""

    def __init__(self, step: float = 0.5, hold: float = 0.4) -> None:
        self.line = LegTimeline(START, conceal=False)
        self.line.set_codecs(CODECS, START)
        self.step, self.hold = int(step * SECOND), int(hold * RATE)

    def record(self, packets: Sequence[Captured], seconds: float) -> Taken:
        """Feed the packets in steps of their arrival, take everything up to ``seconds``."""
        queue = in_order_of_arrival(packets)
        parts, now, index, total = [], 0, 0, int(seconds * RATE)
        while now < seconds * SECOND:
            now += self.step
            batch = []
            while index < len(queue) and queue[index].at < now:
                batch.append(queue[index].record(START))
                index += 1
            self.line.feed(b"".join(batch))
            parts.append(self.line.take(min(total, max(0, int(now * RATE / SECOND) - self.hold))))
        self.line.feed(b"".join(packet.record(START) for packet in queue[index:]))
        parts.append(self.line.take(total))
        samples = np.concatenate(parts)
        counts = self.line.settle()
        return Taken(samples[:total], counts.expected - counts.unique, self.line.gaps(total)[0])


def plain(audio: np.ndarray, position: int, total: int) -> np.ndarray:
    """Silence with the audio at a position."""
    out = np.zeros(total, dtype=np.int16)
    out[position : position + len(audio)] = ULAW[audio]
    return out


def test_a_perfect_stream_is_there_to_the_sample() -> None:
    audio = sound(RATE * 5)
    leg = Leg()
    taken = leg.record(stream(audio, begin_ns=SECOND // 10), 6)
    assert np.array_equal(taken.samples, plain(audio, 800, RATE * 6))
    counts = leg.line.counts
    assert (counts.captured, counts.placed, counts.late, counts.duplicate, counts.reordered) == (250, 250, 0, 0, 0)
    assert taken.expected_lost == 0
    assert taken.gaps == [(0, 800), (40800, 48000)]


@pytest.mark.parametrize("step", [0.02, 0.11, 0.5, 1.0, 2.0])
def test_how_often_it_is_drained_changes_nothing(step: float) -> None:
    audio = sound(RATE * 4)
    taken = Leg(step).record(stream(audio), 4)
    assert taken.where(audio, 0) in range(4)
    assert np.array_equal(
        taken.samples[100:-400], ULAW[audio][100 - taken.where(audio, 0) :][: len(taken.samples) - 500]
    )


def test_loss_is_silence_of_its_own_length() -> None:
    audio = sound(RATE * 4)
    packets = stream(audio)
    gone = {7, 50, 51, 52, 120}
    leg = Leg()
    taken = leg.record([p for i, p in enumerate(packets) if i not in gone], 4)
    wanted = plain(audio, 0, RATE * 4)
    for index in gone:
        wanted[index * 160 : index * 160 + 160] = 0
    assert np.array_equal(taken.samples, wanted)
    assert taken.expected_lost == 5
    assert taken.gaps == [(1120, 1280), (8000, 8480), (19200, 19360)]


def test_reordering_within_and_across_drains() -> None:
    audio = sound(RATE * 4)
    packets = stream(audio)
    for index in (3, 24, 60, 99, 149):  # 24, 99, 149: the last of a drain comes in the next one
        late = replace(packets[index], at=packets[index].at + 50_000_000)
        packets[index] = late
    leg = Leg()
    taken = leg.record(packets, 4)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 4))
    counts = leg.line.counts
    assert (counts.placed, counts.reordered, counts.late, taken.expected_lost) == (200, 5, 0, 0)
    assert taken.gaps == []


def test_duplicates_are_counted_once_and_change_nothing() -> None:
    audio = sound(RATE * 3)
    packets = stream(audio)
    twice = [replace(packets[i], at=packets[i].at + 5_000_000) for i in (0, 10, 24, 25, 77)]
    leg = Leg()
    taken = leg.record(packets + twice, 3)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 3))
    assert (leg.line.counts.duplicate, leg.line.counts.placed, taken.expected_lost) == (5, 150, 0)


def test_what_comes_after_it_was_written_is_late_and_nothing_else_moves() -> None:
    audio = sound(RATE * 4)
    packets = stream(audio)
    packets[40] = replace(packets[40], at=packets[40].at + 2 * SECOND)
    leg = Leg()
    taken = leg.record(packets, 4)
    wanted = plain(audio, 0, RATE * 4)
    wanted[40 * 160 : 41 * 160] = 0
    assert np.array_equal(taken.samples, wanted)
    assert (leg.line.counts.late, taken.expected_lost) == (1, 0)


@pytest.mark.parametrize(("seq", "ts"), [(65500, 5000), (100, 2**32 - 4000), (65535, 2**32 - 1)])
def test_sequence_numbers_and_timestamps_wrap(seq: int, ts: int) -> None:
    audio = sound(RATE * 4)
    leg = Leg()
    taken = leg.record(stream(audio, seq=seq, ts=ts), 4)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 4))
    assert taken.expected_lost == 0


@pytest.mark.parametrize("back", [10, 50, 130, 229, 500, 999, 5000])
@pytest.mark.parametrize("ts", [0, 3_000_000_000])
def test_a_sender_that_begins_anew_with_numbers_of_just_now_is_heard(back: int, ts: int) -> None:
    audio = sound(RATE * 5)
    packets = stream(audio, seq=2000)
    anew = [replace(p, seq=p.seq - back, ts=p.ts - packets[130].ts + ts) for p in packets[130:]]
    leg = Leg()
    taken = leg.record(packets[:130] + anew, 5)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 5))
    assert leg.line.counts.duplicate == 0


@pytest.mark.parametrize("pace_ms", [0, 4])
def test_a_block_that_comes_twice_is_no_new_beginning(pace_ms: int) -> None:
    audio = sound(RATE * 3)
    packets = stream(audio)
    again = [replace(p, at=packets[79].at + i * pace_ms * 10**6) for i, p in enumerate(packets[70:80], 1)]
    leg = Leg()
    taken = leg.record(packets + again, 3)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 3))
    assert leg.line.counts.duplicate == 10


@pytest.mark.parametrize("jump", [10**6, -(10**6), 2**31 - 1, 4000, -4000])
def test_a_timestamp_that_jumps_against_the_clock_moves_no_audio(jump: int) -> None:
    audio = sound(RATE * 6)
    packets = stream(audio, ts=10**7)
    moved = packets[:150] + [replace(p, ts=p.ts + jump) for p in packets[150:]]
    taken = Leg().record(moved, 6)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 6))


def test_another_ssrc_goes_on_where_the_clock_is() -> None:
    audio = sound(RATE * 6)
    packets = stream(audio)
    other = [replace(p, ssrc=0x9999, seq=p.seq + 30000, ts=p.ts + 123456) for p in packets[120:]]
    leg = Leg()
    taken = leg.record(packets[:120] + other, 6)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 6))
    assert taken.expected_lost == 0


def test_two_sources_that_overlap_do_not_disturb_each_other() -> None:
    audio = sound(RATE * 4)
    packets = stream(audio)
    tail = [replace(p, ssrc=0x9999, seq=p.seq + 30000, ts=p.ts + 123456) for p in packets[100:]]
    tail[0], tail[2] = replace(packets[100]), replace(packets[102])
    taken = Leg().record(packets[:100] + tail, 4)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 4))


@pytest.mark.parametrize("counts_on", [True, False])
def test_a_talk_spurt_after_a_pause_stands_at_its_time(counts_on: bool) -> None:
    """With silence suppression the timestamp counts on (RFC 3550 5.1); some senders stop it."""
    one, two = sound(RATE * 2, 1), sound(RATE * 2, 2)
    first = stream(one)
    ts = first[-1].ts + 160 + (3 * RATE if counts_on else 0)
    second = stream(two, begin_ns=5 * SECOND, seq=first[-1].seq + 1, ts=ts)
    taken = Leg().record(first + second, 7)
    assert taken.where(one, 0) == 0
    assert taken.where(two, 0) == 5 * RATE
    assert taken.expected_lost == 0
    assert taken.gaps == [(2 * RATE, 5 * RATE)]


def test_a_leg_that_starts_late_and_is_held_stands_at_its_times() -> None:
    one, two = sound(RATE * 2, 1), sound(RATE * 2, 2)
    packets = stream(one, begin_ns=3 * SECOND)
    packets += stream(two, begin_ns=15 * SECOND, seq=packets[-1].seq + 1, ts=packets[-1].ts + 10 * RATE + 160)
    taken = Leg().record(packets, 17)
    assert taken.where(one, 0) == 3 * RATE
    assert abs((taken.where(two, 0) or 0) - 15 * RATE) <= 160
    assert taken.gaps[0] == (0, 3 * RATE)


@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_an_hour_of_clock_skew_stays_within_20_ms(ppm: float) -> None:
    """A click every ten seconds of true time, 20 samples long; it must be found within 160 samples all along."""
    seconds = 3600
    audio = np.full(seconds * RATE, 0xFF, dtype=np.uint8)
    rate = RATE * (1 + ppm * 1e-6)
    clicks = [int(at * rate) for at in range(5, seconds - 5, 10)]
    for click in clicks:
        audio[click : click + 20] = 0x80
    leg = Leg(step=1.0)
    taken = leg.record(stream(audio, ppm=ppm, delay=lambda index: random.Random(index).random() * 0.01), seconds)
    loud = np.flatnonzero(taken.samples > 20000)
    found = loud[np.insert(np.diff(loud) > 1000, 0, True)]
    assert len(found) == len(clicks)
    true = np.arange(5, seconds - 5, 10) * RATE
    assert np.abs(found - true).max() <= 80  # half of the 20 ms that two legs may be apart
    assert leg.line.counts.late == 0


@pytest.mark.parametrize("spread", [0.005, 0.03, 0.06])
def test_jitter_moves_nothing(spread: float) -> None:
    audio = sound(RATE * 10)
    draw = random.Random(3)
    leg = Leg()
    taken = leg.record(stream(audio, begin_ns=SECOND // 2, delay=lambda _: draw.random() * spread), 11)
    at = taken.where(audio, 0, 7 * RATE)
    assert at is not None
    assert 4000 <= at <= 4000 + 80
    assert leg.line.counts.late == 0


def test_a_first_packet_that_was_delayed_does_not_delay_the_leg() -> None:
    audio = sound(RATE * 5)
    packets = stream(audio, delay=lambda index: 0.15 if index == 0 else 0.0)
    taken = Leg().record(packets, 5)
    assert taken.where(audio, 3 * RATE) == 3 * RATE


def test_a_stall_of_the_network_moves_nothing() -> None:
    audio = sound(RATE * 8)
    packets = stream(audio, delay=lambda index: max(0.0, 0.3 - (index - 100) * 0.02) if index >= 100 else 0.0)
    taken = Leg(step=1.0).record(packets, 8)
    assert np.array_equal(taken.samples, plain(audio, 0, RATE * 8))


def test_a_change_of_codec_in_the_call() -> None:
    audio = sound(RATE * 2)
    packets = stream(audio)
    from media.codecs import ALAW

    taken = Leg().record(packets[:50] + with_type(packets[50:], 8), 2)
    assert np.array_equal(taken.samples[:8000], ULAW[audio[:8000]])
    assert np.array_equal(taken.samples[8000:], ALAW[audio[8000:]])


def test_what_cannot_be_decoded_is_silence_and_counted_by_its_name() -> None:
    audio = sound(RATE * 3)
    packets = stream(audio)
    leg = Leg()
    taken = leg.record(packets[:50] + with_type(packets[50:100], 18) + packets[100:], 3)
    wanted = plain(audio, 0, RATE * 3)
    wanted[50 * 160 : 100 * 160] = 0
    assert np.array_equal(taken.samples, wanted)
    assert leg.line.counts.undecodable == {"G729": 50}
    assert taken.expected_lost == 0


def test_packet_lengths_may_change() -> None:
    audio = sound(RATE * 3)
    packets = stream(audio[: RATE // 2])
    packets += stream(audio[RATE // 2 : 2 * RATE], begin_ns=SECOND // 2, size=240, seq=125, ts=5000 + RATE // 2)
    packets += stream(audio[2 * RATE :], begin_ns=2 * SECOND, size=80, seq=175, ts=5000 + 2 * RATE)
    taken = Leg().record(packets, 3)
    assert np.array_equal(taken.samples, plain(audio, 0, 3 * RATE))
    assert taken.expected_lost == 0


def test_a_writer_that_stood_still_for_ten_seconds_loses_nothing() -> None:
    audio = sound(RATE * 14)
    line = Leg()
    packets = stream(audio)
    line.line.feed(b"".join(p.record(START) for p in packets[:50]))
    head = line.line.take(4000)
    line.line.feed(b"".join(p.record(START) for p in packets[50:]))
    rest = line.line.take(14 * RATE)
    assert np.array_equal(np.concatenate([head, rest]), ULAW[audio])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.15), st.floats(0, 0.2))
def test_any_order_and_loss_within_the_hold_gives_the_audio_of_the_right_order(
    seed: int, spread: float, loss: float
) -> None:
    draw = random.Random(seed)
    audio = sound(RATE * 3, 9)
    packets = stream(audio)
    kept = [i for i in range(len(packets)) if i < 2 or draw.random() >= loss]
    delayed = [replace(packets[i], at=packets[i].at + int(draw.random() * spread * SECOND) * (i > 1)) for i in kept]
    doubled = [replace(p, at=p.at + 1000) for p in delayed if draw.random() < 0.05]
    leg = Leg()
    taken = leg.record(delayed + doubled, 3)
    wanted = np.zeros(3 * RATE, dtype=np.int16)
    for i in kept:
        wanted[i * 160 : i * 160 + 160] = ULAW[audio[i * 160 : i * 160 + 160]]
    assert np.array_equal(taken.samples, wanted)
    counts = leg.line.counts
    assert counts.duplicate == len(doubled)
    assert taken.expected_lost == max(kept) + 1 - len(kept)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(
    st.integers(0, 3 * SECOND), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=400),
    st.sampled_from([1, 2, 3]), st.sampled_from([0, 8, 9, 11, 13, 18, 101, 111]),
), max_size=40))  # fmt: skip
def test_whatever_a_sender_sends_the_recording_has_its_length(
    rows: list[tuple[int, int, int, bytes, int, int]],
) -> None:
    leg = Leg()
    taken = leg.record([Captured(row[0], row[1], row[2], row[3], ssrc=row[4], pt=row[5]) for row in rows], 3)
    assert len(taken.samples) == 3 * RATE
    counts = leg.line.counts
    assert counts.captured == len(rows)
    assert counts.unique + counts.duplicate == len(rows)


@pytest.mark.parametrize("milliseconds", [1, 7, 19, 20, 33])
@pytest.mark.parametrize("loss", [False, True])
def test_what_was_said_before_the_recording_began_has_no_place_in_it(milliseconds: int, loss: bool) -> None:
    """Natively and packet by packet alike."""
    audio = sound(2 * RATE)
    packets = stream(audio, begin_ns=-milliseconds * 1_000_000)
    if loss:
        del packets[40]
    leg = Leg()
    taken = leg.record(packets, 2)
    before = milliseconds * 8
    wanted = ULAW[audio].copy()
    if loss:
        wanted[40 * 160 : 41 * 160] = 0
    assert np.array_equal(taken.samples[: 2 * RATE - before], wanted[before:])
    assert leg.line.counts.late == 0
    assert taken.expected_lost == loss


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 20),
    st.integers(-(10**9), 10**12), st.integers(0, 255), st.integers(0, 23),
)  # fmt: skip
def test_the_native_check_takes_only_what_follows_on(
    seq: int, ts: int, size: int, count: int, begin: int, flip: int, place: int
) -> None:
    """The least of arrival - index * size, as plain Python has it; a changed header byte is no common case."""
    packets = stream(sound(size * count), begin_ns=begin, seq=seq, ts=ts, size=size)
    records = [packet.record(START) for packet in packets]
    data = b"".join(records)
    found = steady_arrival(data, size, 0x1234, seq, ts, 0, START)
    assert found == min(packet.at * RATE // SECOND - index * size for index, packet in enumerate(packets))
    out = np.zeros(size * count, dtype=np.int16)
    decode_steady(data, size, 0, ULAW, out)
    assert np.array_equal(out, np.concatenate([ULAW[np.frombuffer(p.payload, np.uint8)] for p in packets]))
    changed = bytearray(data)
    changed[len(records[0]) * (count // 2) + place] ^= flip
    if place >= 8 and place not in (19, 22, 23) and flip:
        assert steady_arrival(bytes(changed), size, 0x1234, seq, ts, 0, START) is None
    assert steady_arrival(data[:-1], size, 0x1234, seq, ts, 0, START) is None


def test_native_decoding_never_writes_beyond_its_room() -> None:
    (packet,) = stream(sound(160))
    data = packet.record(START)
    for room, skip in ((159, 0), (160, 2), (160, -1)):
        with pytest.raises(ValueError):
            decode_steady(data, 160, skip, ULAW, np.zeros(room, dtype=np.int16))
    with pytest.raises(ValueError):
        decode_steady(data, 160, 0, ULAW[:255], np.zeros(160, dtype=np.int16))


@pytest.mark.parametrize("pause", [0.25, 0.4, 0.65, 1.5])
@pytest.mark.parametrize("begin", [0.3, 1.13, 1.37])
def test_a_pause_with_timestamps_that_stand_still(pause: float, begin: float) -> None:
    """A sender that holds the line and goes on as if no time had passed is heard when it spoke."""
    audio = sound(RATE * 6)
    first = round(begin * 50)
    packets = [
        packet if index < first else replace(packet, at=packet.at + round(pause * SECOND))
        for index, packet in enumerate(stream(audio))
    ]
    leg = Leg(step=1.5, hold=0.6)
    taken = leg.record(packets, 8)
    behind = round(begin * RATE) + RATE // 2
    found = taken.where(audio, behind)
    assert found is not None and abs(found - behind - pause * RATE) <= RATE * 0.02
    assert taken.where(audio, RATE // 10) == RATE // 10
    assert leg.line.counts.late <= 10


def test_a_network_that_is_held_up_and_delivers_at_once_is_no_pause() -> None:
    audio = sound(RATE * 6)
    held = 2.1
    packets = [
        replace(packet, at=max(packet.at, round((held + 0.45) * SECOND))) if packet.at > held * SECOND else packet
        for packet in stream(audio)
    ]
    leg = Leg(step=1.5, hold=0.6)
    taken = leg.record(packets, 6)
    for at in (RATE, 2 * RATE, round(2.3 * RATE), 3 * RATE, 5 * RATE):
        assert taken.where(audio, at) == at
    assert leg.line.counts.anchors == 1
