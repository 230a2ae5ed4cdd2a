"""What a far end sees of a leg that something is played to: one stream, whoever speaks."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.player import Player, Sound
from media.relay import Relay, Session
from tests.media.test_relay import BACKENDS, Call
from tests.support.rtp_peer import rtcp, rtp

AGENT, PROSPECT = 0, 1
FAR = [("127.0.0.1", 40000), ("127.0.0.1", 40010)]
MS = 1_000_000


class Line:
    """A detached session; the agent speaks, the prospect hears. Time is made up."""

    def __init__(self) -> None:
        self.session = Session.detached()
        self.now = 10**9
        self.sequence, self.timestamp, self.ssrc = 65500, 2**32 - 1000, 77
        for side in (AGENT, PROSPECT):
            self.session.set_remote(side, FAR[side], now=1)
            self.session.set_clock_rates(side, {0: 8000})
        self.heard: list[bytes] = []

    def speak(self, payload: bytes = b"agent") -> str:
        """The agent's next packet of 20 ms."""
        packet = rtp(payload, sequence=self.sequence, timestamp=self.timestamp, ssrc=self.ssrc)
        self.sequence, self.timestamp = self.sequence + 1, self.timestamp + 160
        verdict = self.feed(packet)
        self.now += 20 * MS
        return verdict

    def feed(self, packet: bytes) -> str:
        verdict, _ = self.session.feed(AGENT, False, FAR[AGENT], packet, self.now)
        if verdict == "forwarded":
            assert self.session.sent is not None
            assert self.session.sent[12:] == packet[12:]
            self.heard.append(self.session.sent)
        return verdict

    def begin(self) -> None:
        self.session.begin_playing(PROSPECT, 8000, 160, 0xABCD, 100, 5000, self.now)

    def play(self, count: int) -> None:
        for number in range(count):
            assert self.session.play(PROSPECT, 0, b"played", number == 0, self.now)
            assert self.session.sent is not None
            self.heard.append(self.session.sent)
            self.speak()

    def played(self, count: int) -> None:
        self.begin()
        self.play(count)
        self.session.end_playing(PROSPECT)

    def wait(self, milliseconds: int) -> None:
        """The agent is silent meanwhile, and its clock goes on."""
        self.now += milliseconds * MS
        self.timestamp += 8 * milliseconds

    def rtcp(self, side: int, packet: bytes) -> bytes | None:
        """What the other far end gets of a compound; None: nothing."""
        verdict, _ = self.session.feed(side, True, (FAR[side][0], FAR[side][1] + 1), packet, self.now)
        return self.session.sent if verdict == "forwarded" else None


def numbers(packet: bytes) -> tuple[int, int, int]:
    """Sequence number, timestamp, SSRC."""
    sequence, timestamp, ssrc = struct.unpack("!HII", packet[2:12])
    return sequence, timestamp, ssrc


def assert_one_row(heard: list[bytes]) -> None:
    """One SSRC, every number once and in order, time as it passes on."""
    rows = [numbers(packet) for packet in heard]
    assert len({ssrc for *_, ssrc in rows}) == 1
    for before, after in pairwise(rows):
        assert (after[0] - before[0]) % 2**16 == 1
        assert 160 <= (after[1] - before[1]) % 2**32 < 2**20


def test_nothing_is_touched_without_a_player() -> None:
    line = Line()
    packet = rtp(b"as it is", sequence=9, timestamp=10, ssrc=11)
    assert line.feed(packet) == "forwarded"
    assert line.heard == [packet]


def test_an_announcement_before_anybody_spoke() -> None:
    line = Line()
    line.played(3)
    line.speak()
    assert numbers(line.heard[0]) == (101, 5160, 0xABCD)
    assert_one_row(line.heard)
    assert [packet[12:] for packet in line.heard] == [b"played"] * 3 + [b"agent"]
    assert [packet[1] >> 7 for packet in line.heard[:3]] == [1, 0, 0]


def test_a_beep_in_the_middle_keeps_the_streams_own_ssrc_and_time() -> None:
    line = Line()
    for _ in range(5):
        line.speak()
    untouched = [numbers(packet) for packet in line.heard]
    line.played(10)
    for _ in range(5):
        line.speak()
    assert_one_row(line.heard)
    rows = [numbers(packet) for packet in line.heard]
    assert rows[:5] == untouched
    assert rows[0][2] == 77
    # 20 ms a packet all along: no time is lost or won by the beep
    assert {(b[1] - a[1]) % 2**32 for a, b in pairwise(rows)} == {160}
    stats = line.session.stats()
    assert (stats[AGENT]["held_back"], stats[PROSPECT]["played"], stats[AGENT]["forwarded"]) == (10, 10, 10)


@settings(max_examples=200)
@given(st.lists(st.one_of(st.tuples(st.sampled_from(["speak", "play", "wait"]), st.integers(1, 12)),
                          st.tuples(st.just("source"), st.integers(1, 2**32 - 1))), max_size=20))  # fmt: skip
def test_whatever_happens_it_is_one_row(steps: list[tuple[str, int]]) -> None:
    line = Line()
    line.played(1)
    for what, count in steps:
        if what == "speak":
            for _ in range(count):
                assert line.speak() == "forwarded"
        elif what == "play":
            line.played(count)
        elif what == "wait":
            line.wait(100 * count)
        else:
            line.ssrc, line.sequence, line.timestamp = line.ssrc + 1, count % 2**16, count * 7 % 2**32
    assert_one_row(line.heard)


def test_lost_and_late_packets_stay_what_they_are() -> None:
    """After a join a gap stays a gap and a late packet gets its own number; older than the join is held back."""
    line = Line()
    line.played(2)
    base = line.sequence
    packets = [rtp(b"x", sequence=base + i, timestamp=line.timestamp + 160 * i, ssrc=77) for i in range(-2, 6)]
    order = [2, 1, 4, 3, 7, 0]
    assert [line.feed(packets[i]) for i in order] == [
        "forwarded",
        "held",
        "forwarded",
        "forwarded",
        "forwarded",
        "held",
    ]
    rows = [numbers(packet) for packet in line.heard[2:]]
    first = rows[0]
    assert [((s - first[0]) % 2**16, (t - first[1]) % 2**32) for s, t, _ in rows] == [
        (0, 0), (2, 320), (1, 160), (5, 800),
    ]  # fmt: skip


def test_held_apart_nothing_passes_and_afterwards_nothing_is_touched() -> None:
    line = Line()
    line.session.hold_apart(PROSPECT, True)
    assert line.speak() == "held"
    assert line.rtcp(AGENT, rtcp(ssrc=77)) is None
    line.session.hold_apart(PROSPECT, False)
    packet = rtp(b"a", sequence=line.sequence, timestamp=line.timestamp, ssrc=77)
    assert line.feed(packet) == "forwarded"
    assert line.heard == [packet]
    assert line.session.stats()[AGENT]["held_back"] == 1


def test_held_apart_the_player_is_heard() -> None:
    line = Line()
    line.session.hold_apart(PROSPECT, True)
    line.played(2)
    assert line.speak() == "held"
    line.session.hold_apart(PROSPECT, False)
    assert line.speak() == "forwarded"
    assert_one_row(line.heard)


def sender_report(ssrc: int, timestamp: int, packets: int, octets: int) -> bytes:
    """RFC 3550 §6.4.1, then an SDES with an empty chunk."""
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, ssrc, 1, 2, timestamp, packets, octets)
    return report + struct.pack("!BBHII", 0x81, 202, 2, ssrc, 0)


def test_reports_fit_the_stream_that_is_seen() -> None:
    line = Line()
    line.played(3)
    assert line.rtcp(AGENT, sender_report(77, line.timestamp, 3, 15)) is None  # not joined yet
    line.speak()
    source, seen = (line.sequence - 1, line.timestamp - 160, 77), numbers(line.heard[-1])
    report = line.rtcp(AGENT, sender_report(77, source[1] % 2**32, 4, 20))
    assert report is not None
    assert struct.unpack("!IIIIII", report[4:28]) == (seen[2], 1, 2, seen[1], 4, 18 + 5)
    assert struct.unpack("!I", report[32:36]) == (seen[2],)
    assert line.rtcp(AGENT, sender_report(78, 1, 1, 1)) is None

    block = struct.pack("!IIIIII", seen[2], 0, seen[0], 0, 0, 0)
    told = line.rtcp(PROSPECT, struct.pack("!BBHI", 0x81, 201, 7, 5) + block)
    assert told is not None
    assert struct.unpack("!III", told[8:20]) == (77, 0, source[0] % 2**16)
    assert line.session.quality()[PROSPECT]["reports"] == 1


@settings(max_examples=300)
@given(st.binary(max_size=120), st.booleans(), st.integers(0, 1))
def test_no_compound_breaks_the_fitting(tail: bytes, joined: bool, side: int) -> None:
    line = Line()
    line.played(1)
    if joined:
        line.speak()
    for packet in (sender_report(77, 1, 1, 1) + tail, b"\x81\xc9\x00\x07" + tail, b"\x80\xc8\x00\x06" + tail):
        told = line.rtcp(side, packet)
        assert told is None or len(told) == len(packet)


def test_what_can_not_be_played() -> None:
    line = Line()
    assert not line.session.play(PROSPECT, 0, b"x", True)
    line.begin()
    line.session.set_remote(PROSPECT, None)
    assert not line.session.play(PROSPECT, 0, b"x", True)
    line.session.set_remote(PROSPECT, FAR[PROSPECT])
    with pytest.raises(ValueError, match="no such packet"):
        line.session.play(PROSPECT, 128, b"x", True)
    with pytest.raises(ValueError, match="no such packet"):
        line.session.play(PROSPECT, 0, bytes(5000), True)
    line.session.close()
    assert not line.session.play(PROSPECT, 0, b"x", True)
    line.session.end_playing(PROSPECT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_real_sockets(backend: str) -> None:
    """Played before anybody spoke, then in the middle: the far end sees one row of packets from one port."""
    relay = Relay(1, backend=backend)
    call, player = Call(relay).connect(), Player()
    heard: list[bytes] = []

    def hear(count: int) -> None:
        for _ in range(count):
            data, source = call.peers[PROSPECT].receive()
            assert source == call.local[PROSPECT]
            heard.append(data)

    spoken = 0

    def speak(count: int) -> None:
        nonlocal spoken
        for spoken in range(spoken, spoken + count):  # noqa: B020
            packet = rtp(b"spoken", sequence=spoken, timestamp=160 * spoken, ssrc=9)
            call.peers[AGENT].send(packet, call.local[AGENT])
            hear(1)
        spoken += 1

    try:
        assert player.play(call.session, PROSPECT, Sound(0, 8000, [b"first"] * 4)).done.result(5) == 4
        hear(4)
        speak(3)
        assert player.play(call.session, PROSPECT, Sound(0, 8000, [b"second"] * 3)).done.result(5) == 3
        hear(3)
        speak(2)
        assert_one_row(heard)
        assert [packet[12:] for packet in heard] == [b"first"] * 4 + [b"spoken"] * 3 + [b"second"] * 3 + [b"spoken"] * 2
    finally:
        player.close()
        call.close()
        relay.close()


def test_a_sound_is_stopped() -> None:
    relay = Relay(1)
    call, player = Call(relay).connect(), Player()
    try:
        playing = player.play(call.session, PROSPECT, Sound(0, 8000, [b"long"] * 10000))
        call.peers[PROSPECT].receive()
        player.stop(playing)
        player.stop(playing)
        assert 1 <= playing.done.result(5) < 10000
        other = player.play(call.session, PROSPECT, Sound(0, 8000, [b"long"] * 10000))
        player.close()
        assert other.done.result(5) < 10000
        assert player.play(call.session, PROSPECT, Sound(0, 8000, [b"late"])).done.result(5) == 0
    finally:
        player.close()
        call.close()
        relay.close()


def test_sounds_after_the_end_of_their_call() -> None:
    relay = Relay(1)
    call, player = Call(relay).connect(), Player()
    try:
        playing = player.play(call.session, PROSPECT, Sound(0, 8000, [b"x"] * 30))
        call.close()
        assert playing.done.result(5) < 30
    finally:
        player.close()
        relay.close()
