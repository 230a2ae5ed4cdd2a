"""What is written of calls: queued by the event loop, committed in groups by a thread of its own.

A record's future is done when the record is on the disk. Records of one call are written in the order in which they
came. A database that is locked or down is waited for; a record that can't be stored is logged, and its future fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from gateway.store import rows
from gateway.store.database import Database, explained
from gateway.store.errors import JournalError
from gateway.store.records import CallEnded, CallStarted, DecisionMade, RecordingStored
from gateway.store.rows import Record

log = structlog.get_logger("store")

Entry = tuple[Record, "asyncio.Future[None]"]
Outcome = list[tuple["asyncio.Future[None]", JournalError | None]]


class Journal:
    """Group commit of call records.

    ``capacity``: records waiting at most, more are refused. In seconds: ``linger``, how long a decision waits for
    company; ``interval``, how far commits lie apart under load; ``leisure``, how long a record waits that nobody waits
    for (any but a decision; it goes along with whatever goes before); ``patience``, how long a database that is locked
    or down is waited for, ``closing_patience`` while closing.
    """

    def __init__(
        self,
        database: Database,
        *,
        capacity: int = 20_000,
        group: int = 1_000,
        linger: float = 0.005,
        interval: float = 0.05,
        leisure: float = 0.25,
        patience: float = 30.0,
        closing_patience: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._capacity = capacity
        self._group = group
        self._linger = linger
        self._interval = interval
        self._leisure = leisure
        self._patience = patience
        self._closing_patience = closing_patience
        self._clock = clock
        self._gathering: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._earliest = float("-inf")
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._connection: Connection | None = None

    def call_started(self, record: CallStarted) -> asyncio.Future[None]:
        """Store a new call. Done when it is durable; JournalError when it can't be stored (for all four methods)."""
        return self._put(record, self._leisure)

    def decision_made(self, record: DecisionMade) -> asyncio.Future[None]:
        """Store a decision of a call that was started."""
        return self._put(record, self._linger)

    def call_ended(self, record: CallEnded) -> asyncio.Future[None]:
        """Store how a call that was started has ended."""
        return self._put(record, self._leisure)

    def recording_stored(self, record: RecordingStored) -> asyncio.Future[None]:
        """Store what became of the recording of a call that was started."""
        return self._put(record, self._leisure)

    @property
    def waiting(self) -> int:
        """Records that are not durable yet."""
        return self._waiting

    async def close(self) -> None:
        """Write what is waiting; after it, records are refused. Waits at most ``closing_patience`` for a lock."""
        if self._closing.is_set():
            return
        self._hand_over()
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            await asyncio.sleep(0)  # the outcomes that the thread has sent are delivered before this returns

    # -- on the event loop -------------------------------------------------------------------------------------------

    def _put(self, record: Record, linger: float) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._closing.is_set() or self._waiting >= self._capacity:
            why = "the store is closed" if self._closing.is_set() else f"{self._capacity} records wait already"
            _settle(future, _lost(record, why))
            return future
        self._waiting += 1
        self._gathering.append((record, future))
        self._loop = loop
        if len(self._gathering) >= self._group:
            self._hand_over()
        else:
            self._schedule(loop, max(loop.time() + linger, self._earliest))
        return future

    def _schedule(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._gathering:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="store-journal", daemon=True)
            self._thread.start()
        if self._loop is not None:
            self._earliest = self._loop.time() + self._interval
        self._queue.put(self._gathering)
        self._gathering = []

    def _deliver(self, outcome: Outcome) -> None:
        self._waiting -= len(outcome)
        for future, error in outcome:
            _settle(future, error)

    # -- on the writer's thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        ending = False
        while not ending:
            entries, ending = self._take()
            if not entries:
                continue
            try:
                outcome = self._store(entries)
            except Exception as error:  # a defect: the thread must outlive it
                outcome = [(future, _lost(record, repr(error))) for record, future in entries]
            loop = self._loop
            if loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the outcome
                    loop.call_soon_threadsafe(self._deliver, outcome)
        self._disconnect()

    def _take(self) -> tuple[list[Entry], bool]:
        """What is queued, waiting for the first of it; and whether it is the last."""
        entries: list[Entry] = []
        item = self._queue.get()
        while item is not None:
            entries += item
            if len(entries) >= self._group:
                return entries, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return entries, False
        return entries, True

    def _store(self, entries: list[Entry]) -> Outcome:
        began = self._clock()
        delay = 0.02
        while True:
            try:
                return self._commit(entries)
            except SQLAlchemyError as error:
                self._disconnect()
                patience = self._closing_patience if self._closing.is_set() else self._patience
                if self._clock() - began + delay > patience:
                    why = str(explained(error))
                    return [(future, _lost(record, why)) for record, future in entries]
                log.warning("store can't be written, trying again", records=len(entries), error=str(explained(error)))
            if self._closing.is_set():
                time.sleep(delay)
            else:
                self._closing.wait(delay)
            delay = min(2 * delay, 1.0)

    def _connected(self) -> Connection:
        """The writer's own connection: taking one from the pool costs a quarter of a small commit."""
        if self._connection is None:
            self._connection = self._database.writer()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _commit(self, entries: list[Entry]) -> Outcome:
        """One transaction for all; where a record is refused, one for all with each record on its own in it."""
        try:
            connection = self._connected()
            with connection.begin():
                rows.write(connection, [record for record, _ in entries])
            return [(future, None) for _, future in entries]
        except Exception as error:
            if not _of_record(error):
                raise
            return self._commit_singly(entries)

    def _commit_singly(self, entries: list[Entry]) -> Outcome:
        refused: dict[int, JournalError] = {}
        connection = self._connected()
        with connection.begin():
            for index, (record, _) in enumerate(entries):
                try:
                    with connection.begin_nested():
                        rows.write(connection, [record])
                except Exception as error:
                    if not _of_record(error):
                        raise
                    refused[index] = _lost(record, str(getattr(error, "orig", None) or error))
        return [(future, refused.get(index)) for index, (_, future) in enumerate(entries)]


def _of_record(error: Exception) -> bool:
    """Whether it is a record that is at fault (what it says can't be bound, or contradicts), not the database."""
    if isinstance(error, IntegrityError | DataError):
        return True
    return not isinstance(error, SQLAlchemyError) or (
        isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    )


def _lost(record: Record, why: str) -> JournalError:
    log.error("record not stored", kind=type(record).__name__, call_id=record.call_id, error=why)
    return JournalError(f"{type(record).__name__} of call {record.call_id} was not stored: {why}")


def _settle(future: asyncio.Future[None], error: JournalError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
        return
    future.set_exception(error)
    future.exception()  # it is in the log: nobody has to fetch it
