"""The audit log: who changed what, when, from what to what; append-only, hash-chained per organization.

Each entry carries the SHA-256 of itself in canonical JSON, in which the hash of the entry before it stands. The head of
the chain is kept apart, so that entries missing at the end are noticed too. Triggers of the database refuse changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.store.database import Database
from gateway.store.errors import NotFound
from gateway.store.tables import audit_heads, audit_log, organizations

GENESIS = "0" * 64
"""What the first entry of an organization names as its previous."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. ``before`` and ``after`` are what changed, as JSON; None where there is no such side."""

    organization: str
    sequence: int
    """1, 2, 3 … within the organization."""
    at: datetime
    actor: str
    action: str
    """``policy.change``, ``user.add`` …"""
    target: str
    before: Any
    after: Any
    previous: str
    hash: str

    def as_dict(self) -> dict[str, Any]:
        """As it is exported, one JSON object a line."""
        return {name: getattr(self, name) for name in self.__slots__} | {"at": _time(self.at)}


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be noted, but for time and place in the chain."""

    actor: str
    action: str
    target: str = ""
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that is not as it was written."""

    organization: str
    sequence: int
    problem: str

    def __str__(self) -> str:
        return f"{self.organization}: entry {self.sequence}: {self.problem}"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def digest(entry: Mapping[str, Any]) -> str:
    """The SHA-256 of an exported entry without its ``hash``: canonical JSON, keys sorted, UTF-8."""
    content = {name: value for name, value in entry.items() if name != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def append(connection: Connection, organization: str, at: datetime, change: Change) -> None:
    """Note ``change`` in the running transaction, which is the one that makes it."""
    _lock(connection, organization)
    row = connection.execute(
        select(audit_heads.c.sequence, audit_heads.c.hash).where(audit_heads.c.organization == organization)
    ).first()
    sequence, previous = (row.sequence, row.hash) if row is not None else (0, GENESIS)
    before, after = json.loads(json.dumps([change.before, change.after], default=_jsonable))
    entry = AuditEntry(
        organization, sequence + 1, at.astimezone(UTC), change.actor, change.action, change.target, before, after,
        previous, "",
    )  # fmt: skip
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__} | {"hash": digest(entry.as_dict())}
    connection.execute(insert(audit_log), values)
    head = {"sequence": sequence + 1, "hash": values["hash"]}
    if row is None:
        connection.execute(insert(audit_heads), {"organization": organization, **head})
    else:
        connection.execute(update(audit_heads).where(audit_heads.c.organization == organization).values(head))


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)


def _lock(connection: Connection, organization: str) -> None:
    """One writer of a chain at a time (SQLite has one writer anyway)."""
    query = select(organizations.c.slug).where(organizations.c.slug == organization)
    if connection.execute(query.with_for_update()).first() is None:
        raise NotFound(f"there is no organization {organization}")


def verify(entries: Iterable[Mapping[str, Any]], head: tuple[int, str] | None = None) -> Broken | None:
    """Check exported entries of one organization in their order; ``head``: how many there are, and the last hash.

    Gives the first that is broken, None when there is none.
    """
    expected, previous, organization = 1, GENESIS, ""
    for entry in entries:
        organization = str(entry.get("organization", organization))
        sequence = entry.get("sequence")
        if sequence != expected:
            return Broken(organization, expected, f"missing (entry {sequence} stands in its place)")
        if entry.get("previous") != previous:
            return Broken(organization, expected, "does not name the hash of the entry before it")
        if entry.get("hash") != digest(entry):
            return Broken(organization, expected, "its content was changed")
        expected, previous = expected + 1, str(entry["hash"])
    if head is not None and head != (expected - 1, previous):
        if head[0] >= expected:
            return Broken(organization, expected, f"missing, with all after it: there were {head[0]} entries")
        return Broken(organization, expected - 1, "is not the one that was written last")
    return None


class AuditLog:
    """Reads the audit log, and notes what changes nothing else in the store (logins). May raise StoreError."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def note(self, organization: str, change: Change) -> None:
        """Append an entry of its own."""
        await self._database.write(lambda connection: append(connection, organization, self._now(), change))

    async def entries(
        self, organization: str, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> list[AuditEntry]:
        """Entries of an organization: the newest first, those before sequence ``before``; or from ``after`` on, in
        their order."""
        query = select(audit_log).where(audit_log.c.organization == organization).limit(limit)
        if before is not None:
            query = query.where(audit_log.c.sequence < before)
        if after is not None:
            query = query.where(audit_log.c.sequence > after)
        order = audit_log.c.sequence.desc() if after is None else audit_log.c.sequence
        rows = await self._database.read(lambda connection: connection.execute(query.order_by(order)).all())
        return [AuditEntry(*row) for row in rows]

    async def verify(self, organization: str) -> Broken | None:
        """Check the whole chain of an organization."""

        def work(connection: Connection) -> Broken | None:
            head = connection.execute(
                select(audit_heads.c.sequence, audit_heads.c.hash).where(audit_heads.c.organization == organization)
            ).first()
            query = select(audit_log).where(audit_log.c.organization == organization).order_by(audit_log.c.sequence)
            rows = connection.execution_options(yield_per=1000).execute(query)
            last = (int(head.sequence), str(head.hash)) if head is not None else (0, GENESIS)
            found = verify((AuditEntry(*row).as_dict() for row in rows), last)
            return Broken(organization, found.sequence, found.problem) if found is not None else None

        return await self._database.read(work)
