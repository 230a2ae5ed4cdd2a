"""Calls and recordings of the past, filtered and paged by time, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select

from gateway.store.database import Database
from gateway.store.errors import NotFound, StoreError
from gateway.store.numbers import e164
from gateway.store.tables import calls, decisions, recordings, users


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls; None: all. ``since`` is included, ``until`` is not."""

    organization: str | None = None
    user: str | None = None
    number: str | None = None
    """The prospect's, in any writing."""
    mode: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call with its last decision and its last recording; what is not there (yet) is None."""

    call_id: str
    organization: str
    username: str | None
    direction: str
    prospect_number: str
    agent_number: str
    sip_call_id: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    termination: str | None
    sip_status: int | None
    ended_by: str | None
    detail: str | None
    trunk: str | None
    mode: str | None
    reason: str | None
    quality: dict[str, Any] | None
    """Loss, jitter, round trip and MOS by leg and direction; None for a call that was not answered."""
    outcome: str | None = None
    path: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it was connected; None when it never was, or still is."""
        if self.answered_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.answered_at).total_seconds()


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A recording with the call that it is of."""

    id: int
    call_id: str
    organization: str
    username: str | None
    prospect_number: str
    outcome: str
    mode: str
    reason: str | None
    path: str | None
    manifest_path: str | None
    channels: int
    sample_rate: int
    samples: int
    size_bytes: int
    sha256: str | None
    problems: tuple[str, ...]
    finished_at: datetime
    started_at: datetime
    """Of the call."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the cursor of the page that follows (None: there is none)."""

    rows: tuple[Any, ...]
    next: str | None


class History:
    """Reads what the journal wrote. Every method may raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def calls(self, wanted: CallFilter, *, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of CallRow, the newest first."""
        query = _filtered(select(*_CALL).outerjoin(users, users.c.id == calls.c.user_id), wanted, calls.c.started_at)
        query = _paged(query, calls.c.started_at, calls.c.call_id, cursor, str)

        def work(connection: Connection) -> Page:
            rows = connection.execute(query.limit(limit + 1)).all()
            recorded = _last_recordings(connection, [row.call_id for row in rows[:limit]])
            found = tuple(CallRow(*row, *recorded.get(row.call_id, ())) for row in rows[:limit])
            more = found and len(rows) > limit
            return Page(found, _cursor(found[-1].started_at, found[-1].call_id) if more else None)

        return await self._database.read(work)

    async def call(self, organization: str, call_id: str, user: str | None = None) -> CallRow:
        """One call, of ``user`` alone if given. Raises NotFound."""
        query = select(*_CALL).outerjoin(users, users.c.id == calls.c.user_id)
        query = query.where(calls.c.call_id == call_id, calls.c.organization == organization)
        if user is not None:
            query = query.where(users.c.username == user)

        def work(connection: Connection) -> CallRow:
            row = connection.execute(query).first()
            if row is None:
                raise NotFound(f"there is no call {call_id}")
            return CallRow(*row, *_last_recordings(connection, [call_id]).get(call_id, ()))

        return await self._database.read(work)

    async def recording(self, organization: str, call_id: str, user: str | None = None) -> RecordingRow:
        """The last recording of a call. Raises NotFound."""
        query = select(*_RECORDING).join(calls, calls.c.call_id == recordings.c.call_id)
        query = query.outerjoin(users, users.c.id == calls.c.user_id)
        query = query.where(recordings.c.call_id == call_id, recordings.c.organization == organization)
        if user is not None:
            query = query.where(users.c.username == user)
        query = query.order_by(recordings.c.id.desc()).limit(1)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise NotFound(f"there is no recording of a call {call_id}")
        return _recording(tuple(row))

    async def recordings(
        self, wanted: CallFilter, *, outcome: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """A page of RecordingRow, the newest first by the start of the call, which ``since`` and ``until`` are of."""
        query = select(*_RECORDING).join(calls, calls.c.call_id == recordings.c.call_id)
        query = query.outerjoin(users, users.c.id == calls.c.user_id)
        query = _filtered(query, wanted, calls.c.started_at)
        if outcome is not None:
            query = query.where(recordings.c.outcome == outcome)
        query = _paged(query, calls.c.started_at, recordings.c.id, cursor, int)
        rows = await self._database.read(lambda connection: connection.execute(query.limit(limit + 1)).all())
        found = tuple(_recording(tuple(row)) for row in rows[:limit])
        more = found and len(rows) > limit
        return Page(found, _cursor(found[-1].started_at, found[-1].id) if more else None)

    async def decisions(self, call_id: str) -> list[dict[str, Any]]:
        """The decisions of a call in their order, as stored."""
        query = select(decisions).where(decisions.c.call_id == call_id).order_by(decisions.c.id)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [dict(row) for row in rows]


_CALL = (
    calls.c.call_id,
    calls.c.organization,
    users.c.username,
    *(calls.c[name] for name in CallRow.__slots__[3:18]),
)
_RECORDING = (
    recordings.c.id,
    recordings.c.call_id,
    recordings.c.organization,
    users.c.username,
    calls.c.prospect_number,
    recordings.c.outcome,
    recordings.c.mode,
    calls.c.reason,
    *(recordings.c[name] for name in RecordingRow.__slots__[8:-1]),
    calls.c.started_at,
)


def _recording(row: tuple[Any, ...]) -> RecordingRow:
    values = dict(zip(RecordingRow.__slots__, row, strict=True))
    values["problems"] = tuple(values["problems"])
    return RecordingRow(**values)


def _filtered(query: Select[Any], wanted: CallFilter, time: Any) -> Select[Any]:
    if wanted.organization is not None:
        query = query.where(calls.c.organization == wanted.organization)
    if wanted.user is not None:
        found = select(users.c.id).where(users.c.username == wanted.user).scalar_subquery()
        query = query.where(calls.c.user_id == found)
    if wanted.number is not None:
        query = query.where(calls.c.prospect_e164 == (e164(wanted.number) or wanted.number))
    if wanted.mode is not None:
        query = query.where(calls.c.mode == wanted.mode)
    if wanted.reason is not None:
        query = query.where(calls.c.reason == wanted.reason)
    if wanted.since is not None:
        query = query.where(time >= wanted.since)
    if wanted.until is not None:
        query = query.where(time < wanted.until)
    return query


def _paged(query: Select[Any], time: Any, key: Any, cursor: str | None, kind: Any) -> Select[Any]:
    """Keyset paging: what comes after the cursor's row costs the same on every page."""
    if cursor is not None:
        at, last = _read_cursor(cursor, kind)
        query = query.where(time <= at, or_(time < at, and_(time == at, key < last)))
    return query.order_by(time.desc(), key.desc())


def _cursor(time: datetime, key: object) -> str:
    return f"{time.isoformat()}~{key}"


def _read_cursor(cursor: str, kind: Any) -> tuple[datetime, Any]:
    time, _, key = cursor.partition("~")
    try:
        at = datetime.fromisoformat(time)
        if at.tzinfo is None:
            raise ValueError
        found = kind(key)
        if isinstance(found, int) and not 0 <= found < 2**63:
            raise ValueError
        return at.astimezone(UTC), found
    except (ValueError, OverflowError):
        raise StoreError(f"{cursor[:80]!r} is not a cursor of this list") from None


def _last_recordings(connection: Connection, call_ids: list[str]) -> dict[str, tuple[str, str | None]]:
    if not call_ids:
        return {}
    query = select(recordings.c.call_id, recordings.c.outcome, recordings.c.path)
    query = query.where(recordings.c.call_id.in_(call_ids)).order_by(recordings.c.id)
    return {call_id: (outcome, path) for call_id, outcome, path in connection.execute(query)}
