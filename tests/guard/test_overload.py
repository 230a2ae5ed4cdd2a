"""Refusing new calls under overload: the share by itself, and a whole queue with and without it."""

from __future__ import annotations

from collections import deque

from gateway.guard.overload import Overload


def test_nothing_is_refused_while_work_is_done_in_time() -> None:
    overload = Overload(0.2)
    for tenth in range(1000):
        overload.sample(0.15, tenth / 10)
        assert not overload.shed()


def test_the_share_grows_while_it_is_late_and_shrinks_when_it_is_not() -> None:
    overload = Overload(0.2)
    shares = []
    for tenth in range(100):
        overload.sample(0.4, tenth / 10)
        shares.append(overload.share)
    assert shares == sorted(shares) and shares[-1] == 1.0
    for tenth in range(100, 250):
        overload.sample(0.0, tenth / 10)
    assert overload.share == 0.0 and not overload.shed()


def test_the_share_is_kept_evenly() -> None:
    overload = Overload()
    overload.share = 0.25
    assert [overload.shed() for _ in range(8)] == [False, False, False, True] * 2
    overload.share = 1.0
    assert all(overload.shed() for _ in range(10))


def test_the_worst_of_an_interval_counts() -> None:
    """A heartbeat that comes in time says nothing about the messages that wait in the socket."""
    overload = Overload(0.2, interval=0.1)
    for hundredth in range(300):
        overload.sample(0.5 if hundredth % 10 == 3 else 0.0, hundredth / 100)
    assert overload.share > 0.5


def test_a_stall_refuses_nobody() -> None:
    """The collector, a slow disk, a machine that was busy: late once and again, but up to date in between."""
    overload = Overload(0.2)
    for tenth in range(600):
        overload.sample(2.0 if tenth % 8 < 5 else 0.0, tenth / 10)
        assert not overload.shed()


def test_retry_after_grows_with_the_share() -> None:
    overload = Overload()
    assert overload.retry_after == 2
    overload.share = 1.0
    assert overload.retry_after == 20


def queue(offered: float, seconds: float, *, guarded: bool) -> tuple[float, float]:
    """A server that does 100 calls a second and refuses 2,000 a second, one after the other: calls done per second in
    the second half, and how late the last of them was."""
    overload = Overload(0.2)
    waiting: deque[float] = deque()
    now, arrived, done, late, beat = 0.0, 0, 0, 0.0, 0.0
    while now < seconds:
        while arrived / offered <= now:
            waiting.append(arrived / offered)
            arrived += 1
        if not waiting:
            now = arrived / offered
            continue
        late = now - waiting.popleft()
        if guarded and now >= beat:
            overload.sample(late, now)
            beat = now + 0.05
        if guarded and overload.shed():
            now += 1 / 2000
            continue
        now += 1 / 100
        done += now > seconds / 2
    return done / (seconds / 2), late


def test_three_times_too_much_is_cut_down_to_what_can_be_done() -> None:
    rate, late = queue(300, 60, guarded=False)
    assert late > 20, "without it everybody waits ever longer"
    rate, late = queue(300, 60, guarded=True)
    assert rate > 70 and late < 2.0


def test_what_can_be_done_is_left_alone() -> None:
    rate, late = queue(95, 60, guarded=True)
    assert rate > 94 and late < 0.2
