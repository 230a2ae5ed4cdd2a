"""``twoparty calls``: what was called, decided and recorded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

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
from gateway.store.history import CallFilter, CallRow, Page
from gateway.store.store import Store

UserOption = Annotated[str | None, typer.Option("--user", "-u", metavar="USERNAME", help="Calls of this agent.")]
NumberOption = Annotated[
    str | None, typer.Option("--number", metavar="NUMBER", help="Calls with this prospect, in any writing.")
]
ModeOption = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="both, agent_only or none.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="The reason of the decision, e.g. prospect_two_party.")
]

MODE_STYLES = {"both": "green", "agent_only": "yellow", "none": "red"}


def register(root: typer.Typer) -> None:
    """Add ``calls`` to the root command."""
    root.command("calls")(calls)


def calls(
    organization: OrganizationOption = None,
    user: UserOption = None,
    number: NumberOption = None,
    mode: ModeOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List calls, the newest first: what the consent engine decided, how they ended, what was recorded.

    Examples: twoparty calls --since 1d --mode none
              twoparty calls --number 603-555-0100 --json
    """
    wanted = CallFilter(organization, user, number, mode, reason, time_of("--since", since), time_of("--until", until))

    async def work(store: Store) -> Page:
        return await store.history.calls(wanted, limit=limit, cursor=cursor)

    page = with_store(config, work)
    if json:
        print_json({"calls": [{**asdict(row), "seconds": row.seconds} for row in page.rows], "next": page.next})
        return
    console.print(_table(page.rows))
    if page.next:
        typer.echo(f"more: --cursor '{page.next}'")


def _table(rows: tuple[CallRow, ...]) -> Table:
    groups = {
        "time (UTC)": ["time (UTC)"],
        "who": ["", "user", "prospect"],
        "decision": ["mode", "reason"],
        "ended": ["ended", "talk"],
        "recording": ["recording", "call"],
    }

    def cells(row: CallRow) -> list[str]:
        ended = row.termination or "live"
        if row.sip_status and row.termination != "completed":
            ended += f" {row.sip_status}"
        return [
            when(row.started_at),
            {"outbound": "→", "inbound": "←"}.get(row.direction, row.direction),
            escape(row.username or "-"),
            escape(row.prospect_number),
            styled_mode(row.mode),
            row.reason or "-",
            ended,
            duration(row.seconds),
            escape(" ".join(part for part in (row.outcome, row.path) if part) or "-"),
            row.call_id,
        ]

    return fitting_table(groups, map(cells, rows), console.width)


def styled_mode(mode: str | None) -> str:
    """A mode in its colour."""
    style = MODE_STYLES.get(mode or "")
    return f"[{style}]{mode}[/]" if style else escape(mode or "-")


def duration(seconds: float | None) -> str:
    """``1:02:03`` or ``2:03``; ``-`` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
