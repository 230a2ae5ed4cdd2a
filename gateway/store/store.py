"""The store: one database, what is read for call setup, what is written of calls, and what commands see and change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import update

from gateway.store.access import Access
from gateway.store.accounts import Accounts
from gateway.store.audit import AuditLog
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.errors import StoreError
from gateway.store.history import History
from gateway.store.journal import Journal
from gateway.store.lists import DialingLists
from gateway.store.policies import Policies
from gateway.store.tables import calls

__all__ = ["Store", "StoreError"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """An open store. ``directory`` and ``journal`` are the gateway's, the others are for commands."""

    directory: Directory
    """Reads for call setup, remembered."""
    journal: Journal
    """Writes of calls, decisions and recordings, grouped."""
    accounts: Accounts
    """Organizations, users, credentials, DIDs."""
    policies: Policies
    lists: DialingLists
    history: History
    """Calls and recordings, paged."""
    access: Access
    """Passwords, sessions and tokens of the web."""
    audit: AuditLog
    """Who changed what."""

    def __init__(self, database: Database, now: Callable[[], datetime] = _utc_now) -> None:
        self._database = database
        self.directory = Directory(database)
        self.journal = Journal(database)
        self.accounts = Accounts(database, now)
        self.policies = Policies(database, now)
        self.lists = DialingLists(database, now)
        self.history = History(database)
        self.access = Access(database, now)
        self.audit = AuditLog(database, now)

    @classmethod
    async def open(cls, url: str) -> Store:
        """Open the database of an SQLAlchemy URL, made and migrated as needed. Raises StoreError."""
        return cls(await Database.open(url))

    async def end_lost_calls(self, now: datetime) -> int:
        """Calls that a crash left open have ended: how many there were. For the gateway, before it serves."""
        lost = (
            update(calls)
            .where(calls.c.ended_at.is_(None))
            .values(ended_at=now, termination="lost", ended_by="gateway", detail="the gateway stopped")
        )
        return await self._database.write(lambda connection: connection.execute(lost).rowcount)

    async def close(self) -> None:
        """Write what the journal still holds, then disconnect."""
        await self.journal.close()
        await self._database.close()
