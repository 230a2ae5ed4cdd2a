"""Group commit, order, and databases that are locked, slow or gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from gateway.store.database import Database
from gateway.store.errors import JournalError
from gateway.store.history import CallFilter
from gateway.store.journal import Journal
from gateway.store.store import Store
from tests.support.store_records import NOW, decided, ended, recorded, started


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    store = await Store.open(database_url)
    await store.accounts.add_organization("acme")
    await store.close()
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


def _impatient(database: Database, **changed: Any) -> Journal:
    """A journal that does not wait for a lock inside the database, so that its own patience is seen."""

    def connected(connection: Any, _: object) -> None:
        if database.engine.dialect.name == "sqlite":
            connection.execute("PRAGMA busy_timeout=0")
            return
        connection.autocommit = True
        connection.execute("SET lock_timeout = '20ms'")
        connection.autocommit = False

    event.listen(database.engine, "connect", connected)
    database.engine.dispose()
    return Journal(database, linger=0, interval=0, leisure=0, **changed)


@contextlib.contextmanager
def locked(url: str) -> Iterator[Callable[[], object]]:
    """Somebody else holds the lock that a writer needs, until the end or until what this gives is called."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as lite:
            lite.execute("BEGIN IMMEDIATE")
            yield lambda: lite.execute("ROLLBACK")
        return
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")
        yield other.rollback


async def test_whole_call_is_there_when_its_futures_are_done(store: Store) -> None:
    user = await store.accounts.add_user("alice", "acme")
    store.journal.call_started(started("c1", user_id=user.agent.user_id))
    await store.journal.decision_made(decided("c1"))
    store.journal.call_ended(ended("c1"))
    await store.journal.recording_stored(recorded("c1", problems=("disk full",)))
    [call] = (await store.history.calls(CallFilter())).rows
    assert (call.username, call.mode, call.reason, call.outcome) == ("alice", "both", "one_party", "complete")
    assert (call.started_at, call.seconds, call.termination) == (NOW, 90.0, "completed")
    [recording] = (await store.history.recordings(CallFilter(user="alice"))).rows
    assert (recording.problems, recording.samples, recording.path) == (("disk full",), 720_000, call.path)
    [decision] = await store.history.decisions("c1")
    assert decision["answer"] == decided("c1").answer
    assert decision["decided_at"] == NOW


async def test_later_decision_is_the_one_that_the_call_shows(store: Store) -> None:
    store.journal.call_started(started("c1"))
    await store.journal.decision_made(decided("c1"))
    await store.journal.decision_made(decided("c1", mode="none", reason="never_record_state"))
    [call] = (await store.history.calls(CallFilter())).rows
    assert (call.mode, call.reason) == ("none", "never_record_state")
    assert [d["mode"] for d in await store.history.decisions("c1")] == ["both", "none"]


async def test_what_queues_up_is_one_transaction(database: Database) -> None:
    commits = 0

    def count(_: object) -> None:
        nonlocal commits
        commits += 1

    event.listen(database.engine, "commit", count)
    journal = Journal(database)
    futures = [journal.call_started(started(f"c{i}")) for i in range(500)]
    futures += [journal.decision_made(decided(f"c{i}")) for i in range(400)]
    await asyncio.gather(*futures)
    assert commits == 1
    assert journal.waiting == 0
    await journal.close()


async def test_a_decision_takes_along_what_waits_before_it(database: Database) -> None:
    journal = Journal(database, leisure=3600)
    first = journal.call_started(started("c1"))
    await asyncio.wait_for(journal.decision_made(decided("c1")), 5)
    assert first.done()
    ending = journal.call_ended(ended("c1"))
    again = journal.decision_made(decided("c1", mode="none"))
    await asyncio.wait_for(again, 5)
    assert ending.done()
    await journal.close()


async def test_one_bad_record_fails_alone(store: Store) -> None:
    good = [store.journal.call_started(started(f"c{i}")) for i in range(5)]
    bad = [
        store.journal.call_started(started("c3")),
        store.journal.call_started(started("x1", organization="nobody")),
        store.journal.decision_made(decided("unheard-of")),
        store.journal.call_ended(ended("unheard-of")),
        store.journal.recording_stored(recorded("unheard-of")),
        store.journal.decision_made(decided("c1", decided_at=datetime(2026, 1, 1))),
        store.journal.decision_made(decided("c1", answer={"not": {"json"}})),
        store.journal.call_started(started("x2", prospect_number="\udce9t\udce9")),
        store.journal.recording_stored(recorded("c1", samples=1 << 70)),
    ]
    good.append(store.journal.decision_made(decided("c2")))
    await asyncio.gather(*good)
    results = await asyncio.gather(*bad, return_exceptions=True)
    assert [type(result) for result in results] == [JournalError] * len(bad)
    assert "unheard-of" in str(results[2])
    assert len((await store.history.calls(CallFilter())).rows) == 5
    assert (await store.history.calls(CallFilter(mode="both"))).rows[0].call_id == "c2"


async def test_locked_database_is_waited_for(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()
    journal = _impatient(database)
    writer = database.writer

    def second() -> Any:
        """The journal takes a new connection after a failure."""
        monkeypatch.setattr(database, "writer", third)
        return writer()

    def third() -> Any:
        loop.call_soon_threadsafe(tried.set)
        return writer()

    monkeypatch.setattr(database, "writer", second)
    with locked(database_url) as release:
        future = journal.call_started(started("c1"))
        await asyncio.wait_for(tried.wait(), 5)
        assert not future.done()
        release()
        await asyncio.wait_for(future, 5)
    await journal.close()


async def test_lock_that_outlasts_patience_fails_the_record_and_not_the_next(
    database: Database, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = _impatient(database, patience=0.0)
    with locked(database_url) as release:
        with pytest.raises(JournalError, match=r"CallStarted of call c1 was not stored: database: .*lock"):
            await journal.call_started(started("c1"))
        release()
    assert "c1" in capsys.readouterr().out
    await journal.call_started(started("c2"))
    await journal.close()


async def test_order_is_kept_while_the_database_is_locked(database: Database, database_url: str) -> None:
    journal = _impatient(database, group=2)
    with locked(database_url) as release:
        futures = []
        for i in range(10):
            futures += [journal.call_started(started(f"c{i}")), journal.decision_made(decided(f"c{i}"))]
            await asyncio.sleep(0)
            futures += [journal.call_ended(ended(f"c{i}")), journal.recording_stored(recorded(f"c{i}"))]
        release()
    await asyncio.gather(*futures)
    await journal.close()


async def test_broken_database_fails_records_and_recovers(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(database, leisure=0, interval=0, patience=0.0)
    writer = database.writer

    def broken() -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(database, "writer", broken)
    with pytest.raises(JournalError, match="a defect"):
        await journal.call_started(started("c1"))
    monkeypatch.setattr(database, "writer", writer)
    await journal.call_started(started("c2"))
    await journal.close()


async def test_queue_is_bounded(database: Database) -> None:
    journal = Journal(database, capacity=3)
    futures = [journal.call_started(started(f"c{i}")) for i in range(4)]
    with pytest.raises(JournalError, match="3 records wait already"):
        await futures.pop()
    await asyncio.gather(*futures)
    await journal.call_started(started("c9"))
    await journal.close()


async def test_close_writes_what_waits_and_refuses_what_follows(database: Database) -> None:
    journal = Journal(database, linger=3600, leisure=3600)
    future = journal.call_started(started("c1"))
    await journal.close()
    assert future.done()
    assert future.exception() is None
    with pytest.raises(JournalError, match="closed"):
        await journal.call_started(started("c2"))
    await journal.close()


async def test_close_does_not_wait_for_a_lock_for_ever(database: Database, database_url: str) -> None:
    journal = _impatient(database, closing_patience=0.0)
    with locked(database_url) as release:
        future = journal.call_started(started("c1"))
        await asyncio.wait_for(journal.close(), 5)
        release()
    assert isinstance(future.exception(), JournalError)


async def test_failed_future_that_nobody_fetches_says_nothing(database: Database) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    journal = Journal(database, capacity=0)
    journal.call_started(started("c1"))
    gc.collect()
    await asyncio.sleep(0)
    assert said == []
    await journal.close()


async def test_cancelled_future_does_not_stop_its_record(store: Store) -> None:
    store.journal.call_started(started("c1")).cancel()
    await store.journal.decision_made(decided("c1"))
    assert len((await store.history.calls(CallFilter())).rows) == 1


async def test_no_thread_is_left(database_url: str) -> None:
    before = set(threading.enumerate())
    store = await Store.open(database_url)
    await store.accounts.add_organization("acme")
    await store.journal.call_started(started("c1"))
    await store.close()
    assert {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("store")} == set()
