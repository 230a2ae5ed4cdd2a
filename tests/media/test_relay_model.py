"""The relay's decisions against a second account of them (``tests.support.relay_model``), without sockets."""

from __future__ import annotations

import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from media.engine import LegStats
from media.relay import Session
from tests.support.relay_model import Model, control, parse
from tests.support.rtp_peer import rtcp, rtp

HOSTS = ("192.0.2.1", "192.0.2.2", "198.51.100.7")
ENDPOINTS = [(host, port) for host in HOSTS for port in (4000, 4001, 5000)]
RING = 4096
COUNTERS = [name for name in LegStats.__dataclass_fields__ if name != "far_end"]

sides = st.integers(0, 1)
endpoints = st.sampled_from(ENDPOINTS)
valid_rtp = st.builds(
    rtp,
    st.binary(max_size=300),
    sequence=st.integers(0, 65535),
    timestamp=st.integers(0, 2**32 - 1),
    ssrc=st.integers(0, 2**32 - 1),
    payload_type=st.sampled_from([0, 8, 13, 63, 64, 72, 76, 77, 101, 127]),
    marker=st.booleans(),
    csrcs=st.lists(st.integers(0, 2**32 - 1), max_size=15).map(tuple),
    extension=st.none() | st.integers(0, 3).map(lambda words: bytes(4 * words)),
    padding=st.integers(0, 20),
)
datagrams = st.one_of(
    valid_rtp,
    st.builds(rtcp, st.sampled_from([191, 192, 200, 201, 207, 223, 224])),
    st.tuples(valid_rtp, st.integers(0, 40)).map(lambda cut: cut[0][: cut[1]]),
    st.binary(max_size=40),
    st.tuples(st.binary(max_size=40), st.sampled_from([0x80, 0x90, 0xA0, 0xB3])).map(lambda b: bytes([b[1]]) + b[0]),
)
steps = st.one_of(
    st.tuples(st.just("feed"), sides, st.booleans(), endpoints, datagrams, st.integers(0, 400_000_000)),
    st.tuples(st.just("feed"), sides, st.just(False), endpoints, valid_rtp, st.integers(0, 400_000_000)),
    st.tuples(st.just("set_remote"), sides, st.none() | endpoints, st.none() | endpoints),
    st.tuples(st.just("set_capture_types"), sides, st.frozensets(st.sampled_from([0, 8, 63, 64, 127]))),
    st.tuples(st.just("start_capture"), sides),
    st.tuples(st.just("drain"), sides),
    st.tuples(st.just("stop_capture"), sides),
)


def compare(script: list[tuple]) -> None:
    """Run the script on both; every answer and every counter must agree."""
    native, model, now = Session.detached(ring_bytes=RING), Model(RING), 1_000
    for name, side, *rest in script:
        if name == "feed":
            is_rtcp, source, packet, passed = rest
            now += passed
            assert native.feed(side, is_rtcp, source, packet, now) == model.feed(side, is_rtcp, source, packet, now)
        elif name == "set_remote":
            native.set_remote(side, *rest, now=now)
            model.set_remote(side, *rest, now)
        elif name == "start_capture":
            assert native.start_capture(side, now + 5)
            model.start_capture(side, now + 5)
        else:
            assert getattr(native, name)(side, *rest) == getattr(model, name)(side, *rest)
    for side, counters in enumerate(native.stats()):
        assert {name: counters[name] for name in COUNTERS} == {name: model.legs[side].counts[name] for name in COUNTERS}
        assert counters["far_end"] == model.legs[side].rtp.far_end
    native.close()


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=60))
def test_every_step_agrees_with_the_model(script: list[tuple]) -> None:
    compare(script)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=60))
def test_agrees_once_media_flows(script: list[tuple]) -> None:
    """The same, from a state where both legs are signalled, latched and captured."""
    flowing = [("set_remote", side, ENDPOINTS[side], None) for side in (0, 1)]
    flowing += [("set_capture_types", side, frozenset({0, 8})) for side in (0, 1)]
    flowing += [("start_capture", side) for side in (0, 1)]
    flowing += [("feed", side, False, ENDPOINTS[side], rtp(b"x" * 160), 1) for side in (0, 1)]
    compare(flowing + script)


def test_a_hundred_thousand_mutated_packets() -> None:
    """Seeded mutations of real packets: the same verdict as the model's, nothing leaks from outside the packet."""
    rng = random.Random(20260105)
    seeds = [
        rtp(bytes(range(160)), sequence=7, timestamp=1120),
        rtp(b"\xff" * 160, csrcs=(1, 2, 3), extension=b"\0" * 8, padding=4, marker=True),
        rtp(b"\x05\x8a\x03\x20", payload_type=101),
        rtcp(200) + bytes(20),
        bytes.fromhex("000100002112a442") + bytes(12),  # STUN binding request, RFC 8489
        b"\x16\xfe\xfd" + bytes(40),  # DTLS handshake, RFC 6347
    ]
    native = Session.detached(ring_bytes=RING)
    here, there = ENDPOINTS[0], ENDPOINTS[4]
    native.set_remote(0, here)
    native.set_remote(1, there)
    native.set_capture_types(0, range(128))
    native.start_capture(0, 0)
    taken = 0
    for number in range(100_000):
        packet = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            packet[rng.randrange(len(packet))] = rng.randrange(256)
        packet = packet[: rng.randrange(len(packet) + 1)] if rng.random() < 0.3 else packet
        is_rtcp = bool(number & 1)
        parsed = parse(bytes(packet))
        valid = control(bytes(packet)) if is_rtcp else parsed is not None
        source = (here[0], here[1] + is_rtcp)
        verdict, target = native.feed(0, is_rtcp, source, bytes(packet), number)
        assert verdict == ("forwarded" if valid else "malformed"), bytes(packet).hex()
        assert (target is not None) == valid
        if parsed is not None and not is_rtcp:
            record = native.drain(0)
            assert len(record) == ((24 + len(parsed[5]) + 7) & ~7 if parsed[5] else 0)
            assert record[24 : 24 + len(parsed[5])] == parsed[5]
            taken += bool(record)
    assert taken > 10_000


def test_record_layout() -> None:
    native = Session.detached(ring_bytes=RING)
    native.set_remote(0, ENDPOINTS[0])
    native.set_capture_types(0, [0])
    native.start_capture(0, 500)
    packet = rtp(b"abcde", sequence=0x1234, timestamp=0xDEADBEEF, ssrc=0x01020304, marker=True, csrcs=(9,), padding=3)
    native.feed(0, False, ENDPOINTS[0], packet, 400)  # the batch began before the capture did
    assert native.drain(0) == struct.pack("<QIIHBBHH5s3x", 500, 0xDEADBEEF, 0x01020304, 0x1234, 0, 1, 5, 0, b"abcde")
    assert native.drain(0) == b""
