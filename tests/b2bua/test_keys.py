"""An agent's keys: which sequences mean what, and what of INFO bodies is a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.b2bua.keys import KEYS, LONGEST_GAP, Control, ControlKeys, KeyLine, control_of_header, key_of_info


def pressed(keys: ControlKeys, text: str, *, paused: bool = False, gap: float = 0.2) -> list[Control | None]:
    """What each key of ``text`` meant; the state follows."""
    line, now, found = KeyLine(keys), 100.0, []
    for key in text:
        control = line.press(key, now, paused=paused)
        paused = {None: paused, Control.PAUSE: True, Control.RESUME: False}[control]
        found.append(control)
        now += gap
    return found


SEVEN_EIGHT = ControlKeys("*7", "*8")


def test_the_two_sequences() -> None:
    assert pressed(SEVEN_EIGHT, "1*7*8")[1:] == [None, Control.PAUSE, None, Control.RESUME]
    assert pressed(SEVEN_EIGHT, "**7") == [None, None, Control.PAUSE]
    assert pressed(SEVEN_EIGHT, "*17*") == [None] * 4
    assert pressed(SEVEN_EIGHT, "77788*") == [None] * 6


def test_one_sequence_for_both_toggles() -> None:
    assert pressed(ControlKeys("*5", "*5"), "*5*5*5")[1::2] == [Control.PAUSE, Control.RESUME, Control.PAUSE]


def test_keys_far_apart_are_no_sequence() -> None:
    assert pressed(SEVEN_EIGHT, "*7", gap=LONGEST_GAP + 0.1) == [None, None]
    assert pressed(SEVEN_EIGHT, "*7", gap=LONGEST_GAP - 0.1) == [None, Control.PAUSE]


def test_no_sequences() -> None:
    assert pressed(ControlKeys(), "*7*8") == [None] * 4
    assert pressed(ControlKeys(pause="9"), "98") == [Control.PAUSE, None]


@given(st.text(max_size=40), st.text(sorted(KEYS), max_size=4), st.text(sorted(KEYS), max_size=4))
def test_a_sequence_is_heard_exactly_where_it_ends(text: str, pause: str, resume: str) -> None:
    """Against a search in the text: after each hit the keys before it count no more."""
    found = pressed(ControlKeys(pause, resume), text)
    since, paused = "", False
    for key, control in zip(text, found, strict=True):
        since += key if key in KEYS else ""
        expected = None
        if pause and key in KEYS and since.endswith(pause):
            expected = Control.RESUME if paused and pause == resume else Control.PAUSE
        elif resume and key in KEYS and since.endswith(resume):
            expected = Control.RESUME
        assert control is expected
        if control is not None:
            since, paused = "", control is Control.PAUSE


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "5"), ("application/dtmf-relay", b"signal= * \n", "*"),
     ("application/dtmf-relay", b"Duration=160\r\nSignal=11\r\n", "#"), ("application/dtmf-relay", b"Signal=d", "D"),
     ("application/dtmf-relay", b"Signal=55", ""), ("application/dtmf-relay", b"5", ""),
     ("application/dtmf", b"7", "7"), ("application/dtmf", b"10", "*"),
     ("application/dtmf", b"", ""), ("application/dtmf", b"\xff\x00", ""),
     ("application/dtmf-relay", b"Signal=" + bytes(1000), "")],
)  # fmt: skip
def test_keys_in_info(kind: str, body: bytes, key: str) -> None:
    assert key_of_info(kind, body) == key


@given(st.binary(max_size=300))
def test_no_body_is_an_exception(body: bytes) -> None:
    for kind in ("application/dtmf-relay", "application/dtmf"):
        assert key_of_info(kind, body) in KEYS | {""}


@pytest.mark.parametrize(
    ("value", "control"),
    [("on", Control.RESUME), (" OFF ", Control.PAUSE), ("pause", Control.PAUSE), ("", None), (None, None), ("x", None)],
)
def test_the_record_header(value: str | None, control: Control | None) -> None:
    assert control_of_header(value) is control
