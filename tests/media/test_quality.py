"""Quality: the relay's counts of a stream beside RFC 3550's arithmetic, RTCP reports, and the E-model's figures."""

from __future__ import annotations

import random
import struct
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.engine import Codec
from media.quality import (
    LegQuality,
    SessionQuality,
    StreamQuality,
    delay_impairment,
    estimated_mos,
    mos_of,
    session_quality,
    transmission_rating,
)
from media.relay import Session
from tests.support.rtp_peer import rtp

AGENT, PROSPECT = 0, 1
ENDS = [("127.0.0.1", 4000), ("127.0.0.1", 5000)]
SECOND = 1_000_000_000
PCMU = Codec("PCMU", 8000)


def open_session() -> Session:
    session = Session.detached()
    for side, end in enumerate(ENDS):
        session.set_remote(side, end, (end[0], end[1] + 1), now=1)
        session.set_clock_rates(side, {0: 8000, 9: 8000, 96: 48000})
    return session


def feed(session: Session, side: int, packet: bytes, at: int, rtcp: bool = False) -> None:
    host, port = ENDS[side]
    session.feed(side, rtcp, (host, port + rtcp), packet, at)


def reference(packets: list[tuple[int, int, int]], clock: int) -> tuple[int, int, float]:
    """(expected, received, jitter in units) of (sequence, timestamp, arrival ns), by RFC 3550 A.1, A.3 and A.8 with
    numbers that never wrap."""
    jitter, before = 0.0, None
    for _, timestamp, at in packets:
        transit = at * clock / SECOND - timestamp
        if before is not None:
            jitter += (abs(transit - before) - jitter) / 16
        before = transit
    numbers = [sequence for sequence, _, _ in packets]
    return max(numbers) - numbers[0] + 1, len(numbers), jitter


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), first=st.integers(0, 65535), begin=st.integers(0, 2**32 - 1),
    loss=st.sampled_from([0.0, 0.02, 0.3]), spread=st.sampled_from([0, 2, 15, 80]),
    clock=st.sampled_from([8000, 48000]),
)  # fmt: skip
def test_loss_and_jitter_are_those_of_rfc_3550(
    seed: int, first: int, begin: int, loss: float, spread: int, clock: int
) -> None:
    dice = random.Random(seed)
    step = clock // 50
    sent = [
        (first + n, begin + n * step, SECOND * 5 + n * 20_000_000 + dice.randrange(spread * 1_000_000 + 1))
        for n in range(400)
    ]
    came = [sent[0], *(p for p in sent[1:] if dice.random() >= loss)]
    came.sort(key=lambda packet: packet[2])
    if came[0] is not sent[0]:  # one before the first that came is outside of RFC 3550's count
        came = [sent[0], *(p for p in came if p is not sent[0])]
        came[0] = (sent[0][0], sent[0][1], min(p[2] for p in came))
    session = open_session()
    for sequence, timestamp, at in came:
        payload_type = 0 if clock == 8000 else 96
        feed(session, AGENT, rtp(b"x" * 160, sequence=sequence, timestamp=timestamp, payload_type=payload_type), at)
    expected, received, jitter = reference(came, clock)
    counted = session.quality()[AGENT]
    assert (counted["expected"], counted["lost"]) == (expected, expected - received)
    assert counted["jitter_ms"] == pytest.approx(jitter * 1000 / clock, rel=0.05, abs=0.3)
    assert counted["longest_gap_ms"] == pytest.approx(max((b[2] - a[2] for a, b in pairwise(came)), default=0) / 1e6)


def test_a_new_source_and_a_restart_are_not_loss() -> None:
    session = open_session()
    for ssrc, first in ((1, 65530), (2, 30000)):
        for n in range(20):
            feed(session, AGENT, rtp(b"x", sequence=first + n, timestamp=n * 160, ssrc=ssrc), SECOND + n * 20_000_000)
    for n in range(20):  # the same source begins anew; the first packet after the jump is not believed yet
        feed(session, AGENT, rtp(b"x", sequence=100 + n, timestamp=n * 160, ssrc=2), 2 * SECOND + n * 20_000_000)
    counted = session.quality()[AGENT]
    assert (counted["expected"], counted["lost"]) == (59, 0)


def test_keys_do_not_count_as_jitter_and_a_hold_is_no_gap() -> None:
    session = open_session()
    for n in range(100):
        late = 300_000_000 if 40 <= n < 50 else 0
        packet = rtp(b"1234", sequence=n, timestamp=40 * 160, payload_type=101)
        if not late:
            packet = rtp(b"x" * 160, sequence=n, timestamp=n * 160)
        feed(session, AGENT, packet, SECOND + n * 20_000_000)
    assert session.quality()[AGENT]["jitter_ms"] == pytest.approx(0, abs=0.2)
    session.set_clock_rates(AGENT, {0: 8000})  # a re-INVITE resumes what was held for a minute
    feed(session, AGENT, rtp(b"x" * 160, sequence=100, timestamp=60 * 8000), 63 * SECOND)
    assert session.quality()[AGENT]["longest_gap_ms"] == pytest.approx(20)


def sender_report(ssrc: int, middle: int) -> bytes:
    return struct.pack("!BBHIIIIII", 0x80, 200, 6, ssrc, middle >> 16, (middle & 0xFFFF) << 16, 0, 50, 8000)


def receiver_report(about: int, fraction: int, lost: int, jitter: int, last: int, delay: int) -> bytes:
    block = struct.pack("!IIIIII", about, fraction << 24 | lost & 0xFFFFFF, 50, jitter, last, delay)
    return struct.pack("!BBHI", 0x81, 201, 7, 99) + block


def test_reports_of_a_far_end_and_its_round_trip() -> None:
    session = open_session()
    for n in range(50):
        feed(session, AGENT, rtp(b"x" * 160, sequence=n, timestamp=n * 160, ssrc=7), SECOND + n * 20_000_000)
    feed(session, AGENT, sender_report(7, 0x12345678), 2 * SECOND, rtcp=True)
    # the prospect's far end got that report, waited half a second, and its answer is back 40 ms later
    report = receiver_report(7, 64, 5, 80, 0x12345678, 0x8000)
    feed(session, PROSPECT, report, 2 * SECOND + 540_000_000, rtcp=True)
    feed(
        session, PROSPECT, receiver_report(8, 255, 5000, 9999, 1, 1), 3 * SECOND, rtcp=True
    )  # of no stream of this call
    counted = session.quality()[PROSPECT]
    assert (counted["reports"], counted["reported_lost"]) == (1, 5)
    assert counted["reported_jitter_ms"] == pytest.approx(10)
    assert counted["reported_fraction_most"] == 0.25
    assert counted["round_trip_ms"] == pytest.approx(40, abs=0.1)
    assert session.quality()[AGENT]["reports"] == 0
    quality = session_quality(session.quality(), ({0: PCMU}, {0: PCMU}))
    assert quality.prospect.sent is not None and quality.prospect.sent.lost == 5
    assert quality.prospect.sent.loss_percent == 10 and quality.agent.sent is None
    assert quality.agent.received.mos == pytest.approx(4.41, abs=0.01)
    assert quality.as_dict()["prospect"]["round_trip_ms"] == pytest.approx(40, abs=0.1)


@given(data=st.binary(max_size=200), at=st.integers(2, 2**40))
def test_no_rtcp_is_too_odd(data: bytes, at: int) -> None:
    session = open_session()
    feed(session, AGENT, rtp(b"x", ssrc=7), 2)
    feed(session, PROSPECT, bytes([0x80 | len(data) % 32, 200 + len(data) % 2]) + data, at, rtcp=True)
    counted = session.quality()[PROSPECT]
    assert counted["round_trip_ms"] is None or 0 <= counted["round_trip_ms"] < 60_000


def test_figures_of_the_e_model() -> None:
    # G.107 annex B: the default R of 93.2 is a MOS of 4.41; table B.1's borders of user satisfaction
    assert mos_of(93.2) == pytest.approx(4.41, abs=0.005)
    for rating, mos in ((90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)):
        assert mos_of(rating) == pytest.approx(mos, abs=0.01)
    assert (mos_of(-5), mos_of(0), mos_of(100), mos_of(120)) == (1.0, 1.0, 4.5, 4.5)
    # G.114's curve: hardly anything below 150 ms, some 30 points at 500 ms
    assert delay_impairment(100) == 0 and delay_impairment(150) < 1
    assert 25 < delay_impairment(500) < 35
    # G.113: G.729 without loss loses 11 points
    assert transmission_rating(0, 0, 11, 19) == pytest.approx(82.2)
    assert transmission_rating(0, 5, 0, 25.1) == pytest.approx(93.2 - 95 * 5 / 30.1)


def test_mos_falls_with_whatever_gets_worse_and_is_none_where_nothing_is_known() -> None:
    clean = estimated_mos(PCMU, 0, 0, 0)
    assert clean is not None
    for worse in ((1, 0, 0), (0, 60, 0), (0, 0, 500)):
        mos = estimated_mos(PCMU, *worse)
        assert mos is not None and mos < clean
    assert estimated_mos(Codec("OPUS", 48000, 2), 0, 0, 0) is None and estimated_mos(None, 0, 0, 0) is None
    assert estimated_mos(PCMU, 100, 10_000, 10_000) == 1.0


_figures = st.none() | st.floats(0, 1e6)
_streams = st.builds(
    StreamQuality,
    st.integers(0, 2**32),
    st.integers(-9, 2**32),
    st.floats(0, 100),
    _figures,
    _figures,
    _figures,
    _figures,
)
_legs = st.builds(LegQuality, _streams, st.none() | _streams, _figures, _figures)


@given(st.builds(SessionQuality, _legs, _legs))
def test_the_dictionary_has_every_field_rounded(quality: SessionQuality) -> None:
    def rounded(value: object) -> object:
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return round(value, 2) if isinstance(value, float) else value

    assert quality.as_dict() == rounded(asdict(quality))
