"""Keys out of telephone-events: each once, whatever becomes of its packets on the way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.keys import KEYS, KeyEvents, TelephoneEvent
from media.relay import Session
from tests.support.rtp_peer import rtp, telephone_events

FAR = ("127.0.0.1", 40000)


def keys_of(events: list[TelephoneEvent]) -> str:
    """What is pressed, by events in order of arrival."""
    machine = KeyEvents()
    return "".join(found.key for event in events if (found := machine.take(event)) is not None)


def packets_of(text: str, *, updates: int = 4, ssrc: int = 7) -> list[list[TelephoneEvent]]:
    """The packets of each key, as RFC 4733 §2.5.1 has them sent: updates every 20 ms, the end three times."""
    sent, now = [], 0
    for number, key in enumerate(text):
        timestamp = (2**32 - 2000 + 1600 * number) % 2**32
        packets = [TelephoneEvent(KEYS.index(key), False, 160 * i, timestamp, ssrc, now + i) for i in range(updates)]
        end = TelephoneEvent(KEYS.index(key), True, 160 * updates, timestamp, ssrc, now + updates)
        sent.append([*packets, end, end, end])
        now += 100
    return sent


@given(st.text(KEYS, max_size=30), st.randoms(use_true_random=False))
def test_any_one_packet_of_a_key_is_enough(text: str, rng: random.Random) -> None:
    kept = [sorted(rng.sample(key, rng.randint(1, len(key))), key=lambda e: e.arrival_ns) for key in packets_of(text)]
    assert keys_of([event for key in kept for event in key]) == text


@given(st.text(KEYS, max_size=30), st.randoms(use_true_random=False))
def test_late_and_repeated_packets_are_no_new_keys(text: str, rng: random.Random) -> None:
    """What is repeated or late comes at most four keys later; the first packets stay in order."""
    arrivals: list[tuple[float, int, TelephoneEvent]] = []
    for number, key in enumerate(packets_of(text)):
        arrivals.append((number, -1, key[0]))
        for order, event in enumerate(key * rng.randint(1, 2)):
            arrivals.append((number + rng.random() * 4, order, event))
    assert keys_of([event for *_, event in sorted(arrivals, key=lambda a: a[:2])]) == text


def test_a_key_held_for_long_is_one_key() -> None:
    first = TelephoneEvent(9, False, 0xFFFF, 1000, 7, 0)
    second = TelephoneEvent(9, False, 0xFFFF, 1000 + 0xFFFF, 7, 1)
    last = TelephoneEvent(9, True, 400, 1000 + 2 * 0xFFFF, 7, 2)
    assert keys_of([first, second, last]) == "9"
    ended = TelephoneEvent(9, True, 0xFFFF, 1000, 7, 0)
    assert keys_of([ended, second]) == "99"
    assert keys_of([first, TelephoneEvent(8, False, 1, 1000 + 0xFFFF, 7, 1)]) == "98"


def test_the_same_key_twice_and_a_new_source() -> None:
    assert keys_of([event for key in packets_of("5551") for event in key]) == "5551"
    again = [event for ssrc in (7, 8) for event in packets_of("5", ssrc=ssrc)[0]]
    assert keys_of(again) == "55"


@pytest.mark.parametrize("code", [16, 32, 255])
def test_other_events_are_no_keys(code: int) -> None:
    assert keys_of([TelephoneEvent(code, False, 0, 1, 1, 0), *packets_of("1")[0]]) == "1"


def session(payload_types: tuple[int, ...] = (101,)) -> Session:
    made = Session.detached()
    made.set_remote(0, FAR)
    made.set_event_types(0, payload_types)
    return made


def test_the_relay_keeps_first_packet_and_end_of_each_event() -> None:
    made = session()
    for now, packet in enumerate(telephone_events(5, timestamp=3000, ssrc=9)):
        made.feed(0, False, FAR, packet, 100 + now)
    assert made.take_events(0) == ([(5, False, 160, 3000, 9, 100), (5, True, 800, 3000, 9, 104)], 0)
    assert made.take_events(0) == ([], 0)
    assert made.take_events(1) == ([], 0)


def test_the_relay_keeps_a_bounded_number_of_events() -> None:
    made = session()
    for number in range(100):
        made.feed(0, False, FAR, rtp(bytes([1, 10, 0, 80]), timestamp=number, payload_type=101), number)
    events, lost = made.take_events(0)
    assert ([event[3] for event in events], lost) == (list(range(32)), 68)
    made.feed(0, False, FAR, rtp(bytes([1, 10, 0, 80]), timestamp=5000, payload_type=101), 1)
    assert [event[3] for event in made.take_events(0)[0]] == [5000]


def test_nothing_but_whole_events_of_the_leg_itself() -> None:
    made = session()
    made.feed(0, False, FAR, rtp(bytes(3), payload_type=101), 1)
    made.feed(0, False, FAR, rtp(bytes(160), payload_type=0), 2)
    made.feed(0, False, ("127.0.0.1", 40002), rtp(bytes(4), payload_type=101), 3)
    assert made.take_events(0) == ([], 0)
    made.set_event_types(0, ())
    made.feed(0, False, FAR, rtp(bytes(4), payload_type=101), 4)
    assert made.take_events(0) == ([], 0)
    with pytest.raises(ValueError, match="128"):
        made.set_event_types(0, (128,))
    made.close()
    assert made.take_events(0) == ([], 0)
