"""Dialing lists: the prospect's state by number, imported from CSV files of any length in bounded memory."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, delete, func, select

from gateway.store import audit, changes
from gateway.store.audit import Change
from gateway.store.database import Database
from gateway.store.errors import NotFound, StoreError
from gateway.store.numbers import e164
from gateway.store.tables import dialing_list, organizations

_CHUNK = 20_000
_BAD_ROWS_NAMED = 20
_DELIMITERS = ",;\t|"
_LONGEST_HEADER = 65536


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be imported; ``line`` counts from 1, the header included."""

    line: int
    column: str
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.column}: {self.problem}"


@dataclass(slots=True)
class Import:
    """What an import found: good rows, bad rows (the first of them named)."""

    good: int = 0
    bad: int = 0
    named: list[BadRow] = field(default_factory=list)

    def note(self, row: BadRow) -> None:
        self.bad += 1
        if len(self.named) < _BAD_ROWS_NAMED:
            self.named.append(row)


Progress = Callable[[int], None]
"""Called now and then with how many bytes of the file have been read, or rows written."""


def check(path: Path, region: Callable[[str], str | None], spool: IO[str], progress: Progress) -> Import:
    """Read a CSV file and write its good rows, ``number<TAB>state`` normalised, to ``spool``.

    ``region`` turns a state as people write it into ISO 3166-2 (None: unknown). The header names the columns ``number``
    and ``state``, any case, among others; comma, semicolon, tab or ``|`` separate. A row without a state is bad: it
    says nothing, and would leave an older state of that number standing. So is one that is no CSV, or not UTF-8 where
    it is read. Raises StoreError when it is no such file.
    """
    found = Import()
    states = _States(region)
    try:
        with path.open("rb") as raw:
            if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise StoreError(f"{path}: not UTF-8 text but UTF-16; save it as UTF-8")
            raw.seek(0)
            # bytes that are not UTF-8 come as surrogates: what stands in other columns is nobody's concern here
            with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                rows, number_at, state_at = _open_csv(path, file)
                for count, row in enumerate(_rows(rows)):
                    if count % _CHUNK == 0:
                        progress(raw.tell())
                    good = (
                        row if isinstance(row, BadRow) else _read_row(rows.line_num, row, number_at, state_at, states)
                    )
                    if isinstance(good, BadRow):
                        found.note(good)
                    elif good is not None:
                        found.good += 1
                        spool.write(f"{good[0]}\t{good[1]}\n")
                progress(raw.tell())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from None
    return found


class _States:
    """A state in any spelling; each spelling is looked up once."""

    def __init__(self, region: Callable[[str], str | None]) -> None:
        self._region = region
        self._known: dict[str, str | None] = {}

    def __call__(self, text: str) -> str | None:
        if text not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[text] = self._region(text.strip()) if text.strip() else None
        return self._known[text]


def _read_row(
    line: int, row: list[str], number_at: int, state_at: int, states: _States
) -> tuple[str, str] | BadRow | None:
    """Number and state of a row, or what is bad in it; None for an empty one."""
    if not row or (len(row) == 1 and not row[0].strip()):
        return None
    number = row[number_at] if number_at < len(row) else ""
    key = e164(number)
    if key is None:
        return BadRow(line, "number", _problem(number, "a telephone number"))
    state = row[state_at] if state_at < len(row) else ""
    iso = states(state)
    return (key, iso) if iso is not None else BadRow(line, "state", _problem(state, "a state"))


def _problem(text: str, what: str) -> str:
    if not text.strip():
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{text[:40].encode('utf-8', 'surrogateescape')!r} is not UTF-8 text"
    return f"{text[:40]!r} is not {what}"


def _rows(rows: Any) -> Iterator[list[str] | BadRow]:
    """The rows, and in their place what is none (a stray quote, a field of over 131,072 characters)."""
    while True:
        line = rows.line_num + 1
        try:
            yield next(rows)
        except csv.Error as error:
            yield BadRow(line, "row", f"is not CSV: {error}")
        except StopIteration:
            return


def _open_csv(path: Path, file: IO[str]) -> tuple[Any, int, int]:
    """A reader past its header, and where the two columns are."""
    header_line = file.readline(_LONGEST_HEADER)
    delimiter = max(_DELIMITERS, key=header_line.count)
    file.seek(0)
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
    except csv.Error as error:
        raise StoreError(f"{path}: line 1: the header is not CSV: {error}") from None
    for name in ("number", "state"):
        if header.count(name) != 1:
            has = "no" if name not in header else "more than one"
            it_has = ", ".join(header)[:200].encode("utf-8", "replace").decode()
            raise StoreError(f"{path}: line 1: the header has {has} column {name!r} (it has: {it_has})")
    return rows, header.index("number"), header.index("state")


class DialingLists:
    """Reads and replaces dialing lists. Every method may raise StoreError."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def store(
        self, organization: str, spool: IO[str], *, replace: bool, progress: Progress, by: str = "system"
    ) -> int:
        """Store what ``check`` wrote to ``spool``, in one transaction; a number's last row wins. ``replace``: what
        was there before is removed. Returns the number of rows read. Raises NotFound for an unknown organization."""

        def work(connection: Connection) -> int:
            query = select(organizations.c.slug).where(organizations.c.slug == organization)
            if connection.execute(query).first() is None:
                raise NotFound(
                    f"there is no organization {organization}; make it with: twoparty organization add {organization}"
                )
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA cache_size=-131072")  # 128 MiB for this connection
            if replace:
                connection.execute(delete(dialing_list).where(dialing_list.c.organization == organization))
            statement = _upsert(connection)
            done = 0
            spool.seek(0)
            for chunk in _chunks(spool, organization):
                connection.execute(statement, chunk)
                done += len(chunk)
                progress(done)
            change = Change(by, "list.import", "dialing list", after={"rows": done, "replace": replace})
            audit.append(connection, organization, self._now(), change)
            changes.bump(connection)
            return done

        return await self._database.write(work)

    async def state(self, organization: str, number: str) -> tuple[str, str] | None:
        """Number (E.164) and state as an organization's list has them; None: it has not. Raises StoreError."""
        key = e164(number)
        if key is None:
            raise StoreError(f"{number!r} is not a telephone number")
        query = select(dialing_list.c.number, dialing_list.c.state).where(
            dialing_list.c.organization == organization, dialing_list.c.number == key
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return (row.number, row.state) if row is not None else None

    async def clear(self, organization: str, *, by: str) -> int:
        """Remove the whole list; gives how many numbers it had."""

        def work(connection: Connection) -> int:
            statement = delete(dialing_list).where(dialing_list.c.organization == organization)
            removed = connection.execute(statement).rowcount
            change = Change(by, "list.clear", "dialing list", before={"numbers": removed}, after={"numbers": 0})
            audit.append(connection, organization, self._now(), change)
            changes.bump(connection)
            return removed

        return await self._database.write(work)

    async def count(self, organization: str | None = None) -> dict[str, int]:
        """Numbers by organization."""
        query = select(dialing_list.c.organization, func.count()).group_by(dialing_list.c.organization)
        if organization is not None:
            query = query.where(dialing_list.c.organization == organization)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {row[0]: row[1] for row in rows}

    async def show(self, number: str) -> dict[str, str]:
        """The state of ``number`` by organization. Raises StoreError for what is not a number."""
        key = e164(number)
        if key is None:
            raise StoreError(f"{number!r} is not a telephone number")

        def work(connection: Connection) -> dict[str, str]:
            slugs = select(organizations.c.slug).scalar_subquery()
            query = select(dialing_list.c.organization, dialing_list.c.state).where(
                dialing_list.c.organization.in_(slugs), dialing_list.c.number == key
            )
            return {row[0]: row[1] for row in connection.execute(query)}

        return await self._database.read(work)


def spool_file() -> IO[str]:
    """A temporary file to ``check`` into: the database is locked only while good rows are written."""
    return tempfile.TemporaryFile("w+", encoding="ascii", newline="\n")


def _chunks(spool: IO[str], organization: str) -> Iterator[list[dict[str, str]]]:
    while lines := list(islice(spool, _CHUNK)):
        rows = []
        for line in lines:
            number, state = line.rstrip("\n").split("\t")
            rows.append({"organization": organization, "number": number, "state": state})
        yield rows


def _upsert(connection: Connection) -> Any:
    statement: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        statement = postgresql.insert(dialing_list)
    else:
        from sqlalchemy.dialects import sqlite

        statement = sqlite.insert(dialing_list)
    return statement.on_conflict_do_update(
        index_elements=["organization", "number"], set_={"state": statement.excluded.state}
    )
