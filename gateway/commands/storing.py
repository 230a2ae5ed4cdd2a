"""What the commands that use the store share: opening it, choosing the organization, reading times and states."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Column, Table

from gateway.commands.common import fail, settings_of
from gateway.store.store import Store, StoreError

T = TypeVar("T")

OrganizationOption = Annotated[
    str | None, typer.Option("--organization", "-o", metavar="SLUG", help="The organization, by its slug.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Rows at most.")]
CursorOption = Annotated[
    str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on where a former page says that more follows.")
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="From this UTC time on: 2026-01-31, 2026-01-31T12:00, or 30m, 12h, 7d ago."
    ),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time; forms as --since.")]


def with_store(config: Path | None, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open the configured store, do ``work``, close it; a StoreError is told and exits with 2."""
    url = settings_of(config).store.url

    async def main() -> T:
        store = await Store.open(url)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(main())
    except StoreError as error:
        fail(str(error))


async def the_organization(store: Store, slug: str | None) -> str:
    """``slug`` if it exists, or without one the only organization that there is. Raises StoreError."""
    known = [organization.slug for organization in await store.accounts.organizations()]
    if slug is not None:
        if slug not in known:
            raise StoreError(f"there is no organization {slug}; make it with: twoparty organization add {slug}")
        return slug
    if len(known) == 1:
        return known[0]
    if not known:
        raise StoreError("there is no organization yet; make one with: twoparty organization add SLUG")
    raise StoreError(f"--organization: say which one: {', '.join(known[:20])}")


def command_line_user() -> str:
    """Who makes a change here, for the audit log."""
    try:
        return f"command line, {getpass.getuser()}"
    except (KeyError, OSError):
        return "command line"


def print_json(value: Any) -> None:
    """One JSON document on stdout; times in ISO 8601."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=_jsonable)
    sys.stdout.write("\n")


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | set | frozenset):
        return sorted(value, key=str)
    return str(value)


_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def time_of(option: str, text: str | None) -> datetime | None:
    """A time as people write it: ISO 8601 (UTC where no zone is given), or ``12h`` for so long ago."""
    if text is None:
        return None
    unit = _UNITS.get(text[-1:])
    try:
        if unit is not None and text[:-1].isascii() and text[:-1].isdigit():
            return datetime.now(UTC) - timedelta(**{unit: int(text[:-1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        fail(f"{option}: {text!r} is not a time; write 2026-01-31, 2026-01-31T12:00 or 12h")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def fitting_table(groups: Mapping[str, Sequence[str]], rows: Iterable[Sequence[str]], width: int) -> Table:
    """A column for each heading, or where ``width`` is too narrow for that a column for each group, its cells stacked.

    ``groups`` maps the heading of a group to the headings in it; a row has a cell for each heading, in that order.
    """
    wide = width >= WIDE
    headings = [heading for group in groups.values() for heading in group] if wide else list(groups)
    table = Table(*(Column(heading, overflow="fold") for heading in headings), show_lines=not wide)
    for row in rows:
        cells = iter(row)
        stacked = ("\n".join(cell for _ in group if (cell := next(cells))) for group in groups.values())
        table.add_row(*(row if wide else stacked))
    return table


WIDE = 140
"""Columns of a terminal from which on every heading has its own."""


def when(time: datetime) -> str:
    """A time for a table, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
