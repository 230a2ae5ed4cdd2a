"""``twoparty organization``: who records, and under whose policy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from gateway.commands.common import ConfigOption, console
from gateway.commands.storing import JsonOption, command_line_user, print_json, when, with_store

app = typer.Typer(
    help="Organizations: each has its users, its policy, its dialing list and its directory of recordings.",
    epilog="Example: twoparty organization add acme --name 'Acme Inc.'",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    """Add ``organization`` to the root command."""
    root.add_typer(app, name="organization")


@app.command("add")
def add(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="Its short name (a-z, 0-9, -): part of recording paths.")],
    name: Annotated[str, typer.Option("--name", help="Its full name; default: the slug.")] = "",
    config: ConfigOption = None,
) -> None:
    """Add an organization. Its policy is the default one until it is set.

    Example: twoparty organization add acme --name 'Acme Inc.'
    """
    with_store(config, lambda store: store.accounts.add_organization(slug, name, by=command_line_user()))
    typer.echo(f"organization {slug} added; next: twoparty user add USERNAME --organization {slug}")


@app.command("list")
def list_(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the organizations."""
    found = with_store(config, lambda store: store.accounts.organizations())
    if json:
        print_json([asdict(organization) for organization in found])
        return
    table = Table("organization", "name", "users", "since")
    for row in found:
        table.add_row(row.slug, row.name, str(row.users), when(row.created_at))
    console.print(table)
