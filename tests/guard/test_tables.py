"""Bounded memory: buckets, expiring keys, bans, quotas, by the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guard.tables import Bans, Buckets, Expiring, Quota


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.floats(0.5, 20), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(gaps: list[float], rate: float, burst: int) -> None:
    buckets: Buckets[str] = Buckets(rate, burst)
    now, taken = 100.0, []
    for gap in gaps:
        now += gap
        if buckets.take("a", now):
            taken.append(now)
    for start in range(len(taken)):
        for end in range(start, len(taken)):
            assert end - start + 1 <= burst + rate * (taken[end] - taken[start]) + 1e-6


def test_a_bucket_fills_up_again_and_each_key_has_its_own() -> None:
    buckets: Buckets[str] = Buckets(2.0, 3)
    assert [buckets.take("a", 0) for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take("b", 0)
    assert [buckets.take("a", at) for at in (0.4, 0.6, 0.7, 1.1)] == [False, True, False, True]
    buckets.refill("a")
    assert [buckets.take("a", 1.1) for _ in range(4)] == [True, True, True, False]
    assert not buckets.take("a", 0.5), "a clock that goes back gives nothing"


def test_tables_are_bounded() -> None:
    buckets: Buckets[int] = Buckets(1, 1, size=100)
    expiring: Expiring[int] = Expiring(size=100)
    bans: Bans[int] = Bans(2, 60, 60, size=100)
    for key in range(1000):
        buckets.take(key, 0)
        expiring.put(key, 10)
        bans.strike(key, 0)
    assert len(buckets) == len(expiring) == len(bans) == 100
    assert not buckets.take(999, 0) and expiring.has(999, 5) and not expiring.has(0, 5)


def test_keys_expire_and_are_never_shortened() -> None:
    table: Expiring[str] = Expiring()
    table.put("a", 10)
    table.put("a", 5)
    assert table.has("a", 9.9) and not table.has("a", 10) and len(table) == 0
    table.put("b", 20)
    table.put("c", 30)
    table.sweep(25)
    assert len(table) == 1 and table.has("c", 29)
    table.drop("c")
    assert not table.has("c", 26)


def test_a_ban_takes_so_many_strikes_within_the_window() -> None:
    bans: Bans[str] = Bans(3, 60, 100)
    assert [bans.strike("a", at) for at in (0, 30, 61, 62, 63)] == [False, False, False, False, True]
    assert bans.banned("a", 162.9) and not bans.banned("a", 163.1) and not bans.banned("b", 70)
    assert bans.count(100) == 1 and bans.count(200) == 0


def test_who_comes_back_is_banned_for_longer_and_not_for_ever() -> None:
    bans: Bans[str] = Bans(1, 60, 100, longest=350)
    now, lengths = 0.0, []
    for _ in range(5):
        assert bans.strike("a", now)
        start = now
        while bans.banned("a", now):
            now += 1
        lengths.append(now - start)
    assert lengths == [100, 200, 350, 350, 350]
    assert bans.strike("a", now + 1000) and not bans.banned("a", now + 1101), "long ago is forgotten"


def test_forgiving_clears_strikes_but_no_ban() -> None:
    bans: Bans[str] = Bans(2, 60, 100)
    bans.strike("a", 0)
    bans.forgive("a", 1)
    assert not bans.strike("a", 2) and bans.strike("a", 3)
    bans.forgive("a", 4)
    assert bans.banned("a", 5)
    assert not bans.strike("a", 6), "a ban is not begun anew while it lasts"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab")), max_size=60), st.integers(0, 4))
def test_a_quota_counts_what_is_held(steps: list[tuple[bool, str]], limit: int) -> None:
    quota: Quota[str] = Quota()
    held = {"a": 0, "b": 0}
    for take, key in steps:
        if take:
            assert quota.take(key, limit) is (not limit or held[key] < limit)
            held[key] += bool(not limit or held[key] < limit)
        elif held[key]:
            quota.release(key)
            held[key] -= 1
    assert {key: quota[key] for key in held} == held
    assert len(quota) == sum(count > 0 for count in held.values())


@pytest.mark.parametrize("size", [1, 2])
def test_what_was_forgotten_starts_afresh(size: int) -> None:
    buckets: Buckets[str] = Buckets(0.001, 1, size=size)
    assert buckets.take("a", 0) and not buckets.take("a", 0)
    for key in "bcd":
        buckets.take(key, 0)
    assert buckets.take("a", 0)
