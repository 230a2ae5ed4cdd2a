"""100,000 mutated RTP and RTCP packets into the native relay, from the far end and from strangers."""

from __future__ import annotations

import random
import resource

from media.packets import records
from media.relay import Session
from tests.support.mutator import packet_mutations

FAR_END, STRANGER = ("192.0.2.10", 4000), ("198.51.100.7", 4000)


def test_no_packet_harms_the_relay_and_what_it_captures_can_be_read() -> None:
    draw = random.Random(1)
    session = Session.detached(ring_bytes=65536)
    for side in (0, 1):
        session.set_remote(side, FAR_END)
        session.set_capture_types(side, [0, 8])
        assert session.start_capture(side, 1)
    verdicts, captured = set(), 0
    before = 0
    for number, data in enumerate(packet_mutations(1, 100_000)):
        source = FAR_END if draw.random() < 0.8 else STRANGER
        verdict, _ = session.feed(number & 1, draw.random() < 0.2, source, data, 1_000 + number * 1_000_000)
        verdicts.add(verdict)
        if number % 50 == 0:
            for side in (0, 1):
                packets = list(records(session.drain(side)))
                captured += len(packets)
                assert all(packet.pt in (0, 8) for packet in packets)
        if number == 50_000:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert {"forwarded", "malformed", "source"} <= verdicts
    assert captured > 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB
    session.close()
