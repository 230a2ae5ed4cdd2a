"""The database behind the store: connections, migrations, and the threads that SQL runs on.

SQL runs through SQLAlchemy Core on a few threads of the store's own, in the synchronous form of the driver that the URL
names: a statement then costs about half of what it costs through aiosqlite, and the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from gateway.store import migrations
from gateway.store.errors import Conflict, StoreError

T = TypeVar("T")

_SYNCHRONOUS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
}
_DRIVER_BUSY_MILLISECONDS = 10_000
_POSTGRESQL_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 5,
    "options": f"-c lock_timeout={_DRIVER_BUSY_MILLISECONDS} -c timezone=UTC",
    "application_name": "twoparty",
    "keepalives_idle": 30,
    "tcp_user_timeout": 15_000,
}


class Database:
    """One database, migrated. ``read`` and ``write`` run a function on a thread, with a connection in a transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._setup_reader = ThreadPoolExecutor(1, thread_name_prefix="store-setup")
        self._readers = ThreadPoolExecutor(3, thread_name_prefix="store-read")
        self._writers = ThreadPoolExecutor(1, thread_name_prefix="store-write")

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect and migrate. Raises StoreError: a bad URL, a database that can't be opened, a newer schema."""
        engine = _engine(_parse(url))
        try:
            await asyncio.to_thread(_migrate, engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    async def read_for_setup(self, work: Callable[[Connection], T]) -> T:
        """As ``read``, on a thread that no page and no report keeps busy: a call waits for this."""
        return await asyncio.get_running_loop().run_in_executor(self._setup_reader, self._run, work, False)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """``work`` on a connection for reading. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, work, False)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """``work`` in a transaction, committed when this returns. Raises StoreError; nothing is changed then."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._run, work, True)

    def _run(self, work: Callable[[Connection], T], write: bool) -> T:
        try:
            if write:
                with _writing(self.engine).begin() as connection:
                    return work(connection)
            with self.engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise explained(error) from error

    def writer(self) -> Connection:
        """A connection whose transactions are for writing (for the store's threads)."""
        return _writing(self.engine).connect()

    async def close(self) -> None:
        """Wait for what runs; close the connections."""
        await asyncio.to_thread(self._shutdown)

    def _shutdown(self) -> None:
        self._setup_reader.shutdown()
        self._readers.shutdown()
        self._writers.shutdown()
        self.engine.dispose()


@contextlib.contextmanager
def connect(url: str) -> Iterator[Connection]:
    """A connection for reading, for one job of a process of its own. Raises StoreError."""
    engine = _engine(_parse(url))
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise explained(error) from error
    finally:
        engine.dispose()


def explained(error: SQLAlchemyError) -> StoreError:
    """One line instead of SQLAlchemy's page with statement and parameters."""
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split()) or type(cause).__name__
    return Conflict(text) if isinstance(error, IntegrityError) else StoreError(f"database: {text}")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("store.url is not a database URL such as sqlite:///var/twoparty.db") from None
    driver = _SYNCHRONOUS.get(parsed.drivername)
    if driver is None:
        raise StoreError(f"store.url: no support for {parsed.drivername}, use sqlite:///FILE or postgresql://HOST/DB")
    if parsed.get_backend_name() == "sqlite" and (not parsed.database or ":memory:" in parsed.database):
        raise StoreError("store.url: SQLite needs a file, sqlite:///FILE")
    return parsed.set(drivername=driver)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite" and url.database:
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from None
    serializer = functools.partial(json.dumps, separators=(",", ":"), ensure_ascii=False)
    try:
        arguments = _POSTGRESQL_ARGUMENTS if url.get_backend_name() == "postgresql" else {}
        engine = create_engine(url, json_serializer=serializer, connect_args=arguments, pool_pre_ping=bool(arguments))
    except (ImportError, NoSuchModuleError) as error:
        raise StoreError(f"store.url: the driver of {url.drivername} is not installed ({error})") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


def _writing(engine: Engine) -> Engine:
    return engine.execution_options(twoparty_write=True)


def _sqlite_connect(connection: Any, _record: object) -> None:
    """WAL lets readers read while somebody writes. synchronous=FULL: a commit is on the disk, for a decision must be
    there before the audio that it allows, after a power loss too; group commit pays for it."""
    connection.isolation_level = None  # transactions are ours: the driver would begin them too late
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_DRIVER_BUSY_MILLISECONDS}")
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    """Two who open a new file at once: the switch does not wait for the other's lock by itself."""
    deadline = time.monotonic() + _DRIVER_BUSY_MILLISECONDS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _sqlite_begin(connection: Connection) -> None:
    """A writer takes the lock at once: one that reads first and then writes can't wait for it (SQLITE_BUSY)."""
    write = connection.get_execution_options().get("twoparty_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _migrate(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            if migrations.current(connection) == migrations.HEAD:
                return
        with _writing(engine).begin() as connection:
            migrations.upgrade(connection)
    except SQLAlchemyError as error:
        raise StoreError(f"{engine.url.database}: {explained(error)}") from error
