"""``twoparty recordings``: what is on the disk, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gateway.commands.calls import ModeOption, NumberOption, ReasonOption, UserOption, duration, styled_mode
from gateway.commands.common import ConfigOption, console
from gateway.commands.storing import (
    CursorOption,
    JsonOption,
    LimitOption,
    OrganizationOption,
    SinceOption,
    UntilOption,
    fitting_table,
    print_json,
    time_of,
    when,
    with_store,
)
from gateway.store.history import CallFilter, Page, RecordingRow
from gateway.store.store import Store


def register(root: typer.Typer) -> None:
    """Add ``recordings`` to the root command."""
    root.command("recordings")(recordings)


def recordings(
    organization: OrganizationOption = None,
    user: UserOption = None,
    number: NumberOption = None,
    mode: ModeOption = None,
    reason: ReasonOption = None,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", metavar="OUTCOME", help="complete, degraded, failed, blocked or recovered."),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List recordings, the newest first; times are those at which a recording was finished.

    Examples: twoparty recordings --outcome degraded --since 7d
              twoparty recordings --user alice --json
    """
    wanted = CallFilter(organization, user, number, mode, reason, time_of("--since", since), time_of("--until", until))

    async def work(store: Store) -> Page:
        return await store.history.recordings(wanted, outcome=outcome, limit=limit, cursor=cursor)

    page = with_store(config, work)
    if json:
        print_json({"recordings": [asdict(row) for row in page.rows], "next": page.next})
        return
    console.print(_table(page.rows))
    if page.next:
        typer.echo(f"more: --cursor '{page.next}'")


def _table(rows: tuple[RecordingRow, ...]) -> Table:
    groups = {
        "finished (UTC)": ["finished (UTC)"],
        "who": ["user", "prospect"],
        "result": ["mode", "outcome"],
        "audio": ["length", "channels", "MB"],
        "file": ["path", "problems"],
    }

    def cells(row: RecordingRow) -> list[str]:
        seconds = row.samples / row.sample_rate if row.sample_rate else None
        return [
            when(row.finished_at),
            escape(row.username or "-"),
            escape(row.prospect_number),
            styled_mode(row.mode),
            row.outcome if row.outcome == "complete" else f"[yellow]{escape(row.outcome)}[/]",
            duration(seconds),
            str(row.channels),
            f"{row.size_bytes / 1e6:.1f}",
            escape(row.path or "-"),
            escape("; ".join(row.problems)),
        ]

    return fitting_table(groups, map(cells, rows), console.width)
