"""Filters and pages of calls and recordings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gateway.store.errors import StoreError
from gateway.store.history import CallFilter
from gateway.store.store import Store
from tests.support.store_records import NOW, recorded, store_call


async def _ids(store: Store, **wanted: Any) -> list[str]:
    return [row.call_id for row in (await store.history.calls(CallFilter(**wanted))).rows]


async def test_filters(store: Store) -> None:
    await store.accounts.add_organization("other")
    user = await store.accounts.add_user("alice", "acme")
    await store_call(store, "a", user_id=user.agent.user_id)
    await store_call(store, "b", minutes=1, organization="other", prospect_number="+442079460000")
    await store_call(store, "c", minutes=2, mode="none", reason="never_record_state")
    assert await _ids(store) == ["c", "b", "a"]
    assert await _ids(store, organization="other") == ["b"]
    assert await _ids(store, user="alice") == ["a"]
    assert await _ids(store, user="nobody") == []
    assert await _ids(store, number="(603) 555-0100") == ["c", "a"]
    assert await _ids(store, number="+44 20 7946 0000") == ["b"]
    assert await _ids(store, mode="none") == await _ids(store, reason="never_record_state") == ["c"]
    assert await _ids(store, since=NOW + timedelta(minutes=1)) == ["c", "b"]
    assert await _ids(store, until=NOW + timedelta(minutes=1)) == ["a"]
    assert await _ids(store, organization="acme", mode="both", number="6035550100") == ["a"]


async def test_pages_cover_everything_once(store: Store) -> None:
    for i in range(11):
        await store_call(store, f"c{i:02}", minutes=i // 3)  # calls of the same time fall on both sides of a page's end
    for size in (1, 2, 3, 4, 11, 12):
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.history.calls(CallFilter(), limit=size, cursor=cursor)
            assert len(page.rows) <= size
            seen += [row.call_id for row in page.rows]
            cursor = page.next
            if cursor is None:
                break
        assert seen == [f"c{i:02}" for i in reversed(range(11))]


async def test_pages_of_recordings(store: Store) -> None:
    await store_call(store, "c")
    for i in range(5):
        await store.journal.recording_stored(recorded("c", outcome="degraded" if i == 2 else "complete", samples=i))
    first = await store.history.recordings(CallFilter(organization="acme"), limit=3)
    second = await store.history.recordings(CallFilter(organization="acme"), limit=3, cursor=first.next)
    assert [row.samples for row in first.rows + second.rows] == [4, 3, 2, 1, 0]
    assert second.next is None
    assert [row.samples for row in (await store.history.recordings(CallFilter(), outcome="degraded")).rows] == [2]
    assert (await store.history.calls(CallFilter())).rows[0].outcome == "complete"


@pytest.mark.parametrize("cursor", ["", "x", "2026-01-01~a", "2026-01-01T00:00:00+00:00~a"])
async def test_cursor_that_is_none(store: Store, cursor: str) -> None:
    with pytest.raises(StoreError, match="not a cursor"):
        await store.history.recordings(CallFilter(), cursor=cursor)


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("organization = 'acme'", "ix_calls_organization_started_at_call_id"),
        ("user_id = 1", "ix_calls_user_id_started_at_call_id"),
        ("prospect_e164 = '+16035550100'", "ix_calls_prospect_e164_started_at_call_id"),
        ("organization = 'acme' AND reason = 'x'", "ix_calls_organization_reason_started_at_call_id"),
        ("organization = 'acme' AND mode = 'none'", "ix_calls_organization_mode_started_at_call_id"),
        ("user_id = 1 AND mode = 'none'", "ix_calls_user_id_mode_started_at_call_id"),
        ("started_at >= '2026-01-01'", "ix_calls_started_at_call_id"),
    ],
)
async def test_pages_come_from_an_index_in_order(store: Store, condition: str, index: str) -> None:
    """PostgreSQL is told not to read such a small table whole, and may take any index that gives the order."""
    query = f"SELECT * FROM calls WHERE {condition} ORDER BY started_at DESC, call_id DESC LIMIT 50"

    def explain(connection: Connection) -> str:
        if connection.dialect.name == "sqlite":
            return str(connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        return str(connection.execute(text(f"EXPLAIN {query}")).all())

    plan = await store._database.read(explain)
    assert index in plan or "Index Scan" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan
