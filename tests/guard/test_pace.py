"""How slow a connection may be: by the clock, without sockets."""

from __future__ import annotations

import pytest

from gateway.guard.pace import ConnectionTable, Pace, StreamLimits

LIMITS = StreamLimits(connections=10, per_source=3, message=10, unproven=30, idle=1000, write=5, handshake=1)


def ends(pace: Pace, now: float, *, known: bool) -> tuple[str, float]:
    """When and why it is closed if nothing more happens, asking when it says."""
    for _ in range(1000):
        reason, at = pace.verdict(now, known=known)
        if reason:
            return reason, now
        assert at > now
        now = at
    raise AssertionError("it never ends")


def test_a_stranger_may_stay_for_a_while_whatever_it_sends() -> None:
    pace = Pace(LIMITS, 0)
    for at in range(1, 29):
        pace.received(at, whole=True, rest=False)
    assert ends(pace, 28, known=False) == ("unproven", 30)


def test_somebody_known_may_be_silent_for_long() -> None:
    pace = Pace(LIMITS, 0)
    pace.received(400, whole=True, rest=False)
    assert ends(pace, 400, known=True) == ("idle", 1400)


def test_who_is_known_no_longer_is_a_stranger_again() -> None:
    pace = Pace(LIMITS, 0)
    reason, at = pace.verdict(100, known=True)
    assert not reason and at <= 130, "it is asked again soon enough"
    assert pace.verdict(130, known=False)[0] == "unproven"


def test_a_message_must_come_to_its_end_however_it_trickles() -> None:
    pace = Pace(LIMITS, 0)
    for tenth in range(1000, 1100):
        pace.received(tenth / 10, whole=False, rest=True)
    assert ends(pace, 109.9, known=True) == ("slow to send", 110)


def test_each_message_has_its_own_time() -> None:
    pace = Pace(LIMITS, 0)
    for at in range(0, 900, 9):
        pace.received(at, whole=True, rest=True)  # one ends, the next one begins
    assert pace.verdict(900, known=True)[0] == ""
    pace.received(902, whole=True, rest=False)
    assert ends(pace, 902, known=True) == ("idle", 1902)


def test_a_far_end_must_read() -> None:
    pace = Pace(LIMITS, 0)
    pace.blocked(50)
    assert pace.verdict(54, known=True)[0] == ""
    pace.unblocked()
    assert pace.verdict(56, known=True)[0] == ""
    pace.blocked(60)
    assert ends(pace, 60, known=True) == ("slow to read", 65)


def test_a_source_has_so_many_connections_and_all_have_so_many() -> None:
    table = ConnectionTable(LIMITS)
    assert [table.admit("a", known=False) for _ in range(4)] == [True, True, True, False]
    assert [table.admit("b", known=True) for _ in range(8)] == [True] * 7 + [False]
    assert table.total == 10
    table.release("a")
    assert not table.admit("b", known=False), "those that were let in as known count"
    assert table.admit("a", known=False)
    for host in "aaabbbbbbb":
        table.release(host)
    assert table.total == 0 and not table._by_host


@pytest.mark.parametrize("known", [True, False])
def test_the_next_look_is_never_in_the_past(known: bool) -> None:
    pace = Pace(LIMITS, 5)
    for now in (5.0, 6.0, 29.0):
        reason, at = pace.verdict(now, known=known)
        assert reason == "" and now < at <= now + LIMITS.unproven
