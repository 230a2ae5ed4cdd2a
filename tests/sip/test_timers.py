"""The queue of deadlines: order, moving, unsetting, and that nothing unset is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.timers import TimerQueue


class Owner:
    def __init__(self) -> None:
        self.deadlines: dict[str, float] = {}
        self.fired: list[tuple[str, float]] = []

    def on_timer(self, name: str, now: float) -> None:
        self.fired.append((name, now))


def test_timers_fire_in_order_once_at_their_last_time() -> None:
    queue, owner = TimerQueue(), Owner()
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("a", 4.0)):
        queue.start(owner, name, at)
    queue.stop(owner, "c")
    assert queue.next_deadline() == 2.0
    for now in (1.0, 2.0, 3.0, 4.0, 5.0):
        queue.advance(now)
    assert owner.fired == [("b", 2.0), ("a", 4.0)]
    assert queue.next_deadline() is None


def test_a_long_timer_that_is_unset_does_not_keep_its_owner() -> None:
    """A call's longest length is hours away; ten thousand calls that ended may not wait for it in the queue."""
    queue, other = TimerQueue(), Owner()
    queue.start(other, "live", 1.0)
    for _ in range(10_000):
        owner = Owner()
        queue.start(owner, "duration", 14_400.0)
        queue.stop(owner)
    assert len(queue) < 200
    queue.advance(1.0)
    assert other.fired == [("live", 1.0)]


steps = st.lists(
    st.tuples(st.sampled_from(["start", "stop", "stop all", "advance"]), st.integers(0, 3), st.sampled_from("abc"),
              st.integers(0, 50)), max_size=200,
)  # fmt: skip


@given(steps)
def test_it_agrees_with_a_plain_list(script: list[tuple[str, int, str, int]]) -> None:
    queue, owners = TimerQueue(), [Owner() for _ in range(4)]
    expected: dict[tuple[int, str], float] = {}
    now = 0.0
    for what, who, name, number in script:
        if what == "start":
            queue.start(owners[who], name, now + number)
            expected[who, name] = now + number
        elif what == "stop":
            queue.stop(owners[who], name)
            expected.pop((who, name), None)
        elif what == "stop all":
            queue.stop(owners[who])
            expected = {key: at for key, at in expected.items() if key[0] != who}
        else:
            now += number
            queue.advance(now)
            due = {key for key, at in expected.items() if at <= now}
            for key in due:
                assert (key[1], now) in owners[key[0]].fired
                del expected[key]
        assert queue.next_deadline() == min(expected.values(), default=None)
