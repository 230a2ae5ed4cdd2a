"""``twoparty list``: dialing lists, which say in which state a prospect is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.commands.common import ConfigOption, console, errors, fail
from gateway.commands.storing import (
    JsonOption,
    OrganizationOption,
    command_line_user,
    print_json,
    the_organization,
    with_store,
)
from gateway.consent.places import parse_state
from gateway.store.lists import Import, check, spool_file
from gateway.store.store import Store

app = typer.Typer(
    help="Dialing lists: the state of each prospect by number, for policies with location_basis = state.",
    epilog="Example: twoparty list import prospects.csv --organization acme",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    """Add ``list`` to the root command."""
    root.add_typer(app, name="list")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="UTF-8 CSV with columns number and state.")],
    organization: OrganizationOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove what the list had before.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Import the good rows and leave the bad ones.")] = False,
    config: ConfigOption = None,
) -> None:
    """Import a dialing list: all of it or, when a row is bad, nothing (bad rows are named by line and column).

    The header names the columns number and state, among others, which are ignored; comma, semicolon, tab or | separate.
    A number of the list gets the new state; of a number that comes twice, the last row counts. A row without a state is
    bad.

    Example: twoparty list import prospects.csv --organization acme --skip-bad
    """

    async def work(store: Store) -> tuple[str, Import, bool]:
        slug = await the_organization(store, organization)
        with spool_file() as spool:
            size = file.stat().st_size if file.is_file() else 0
            with _progress("reading", size) as progress:
                found = check(file, parse_state, spool, progress)
            if found.bad and not skip_bad:
                return slug, found, False
            with _progress("storing", found.good) as progress:
                await store.lists.store(slug, spool, replace=replace, progress=progress, by=command_line_user())
        return slug, found, True

    slug, found, stored = with_store(config, work)
    for row in found.named:
        typer.echo(f"{file}: {row}", err=True)
    if found.bad > len(found.named):
        typer.echo(f"{file}: and {found.bad - len(found.named):,} bad rows more", err=True)
    if not stored:
        fail(
            f"{file}: nothing imported, {found.bad:,} of {found.good + found.bad:,} rows are bad "
            "(--skip-bad leaves them out)"
        )
    left = f", {found.bad:,} bad ones left out" if found.bad else ""
    typer.echo(f"{found.good:,} rows imported into the list of {slug}{left}")


@app.command("show")
def show(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="In any writing.")],
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what the lists say of a number. Exits with 1 when none has it.

    Example: twoparty list show 603-555-0100
    """
    found = with_store(config, lambda store: store.lists.show(number))
    if json:
        print_json(found)
    elif found:
        table = Table("organization", "state")
        for slug, state in sorted(found.items()):
            table.add_row(slug, state)
        console.print(table)
    else:
        fail(f"{number} is on no list", 1)


@app.command("count")
def count(organization: OrganizationOption = None, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Count the numbers of each list."""

    async def work(store: Store) -> dict[str, int]:
        if organization is not None:
            await the_organization(store, organization)
        return await store.lists.count(organization)

    found = with_store(config, work)
    if json:
        print_json(found)
        return
    table = Table("organization", "numbers")
    for slug, numbers in sorted(found.items()):
        table.add_row(slug, f"{numbers:,}")
    console.print(table)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
