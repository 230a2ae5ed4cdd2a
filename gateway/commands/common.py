"""What the commands share: the ``--config`` option, the console, and how an error is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from config.settings import Settings, SettingsError, load

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings (TOML) over the embedded defaults; also $TWOPARTY_CONFIG."
    ),
]

console = Console()
errors = Console(stderr=True)


def fail(message: str, code: int = 2) -> NoReturn:
    """Say ``message`` on stderr, unwrapped and unstyled, and exit with ``code``."""
    typer.echo(f"twoparty: {message}", err=True)
    raise typer.Exit(code)


def settings_of(config: Path | None) -> Settings:
    """The settings of ``--config``; exits with 2 and the file and key named when they can't be used."""
    try:
        return load(config)
    except SettingsError as error:
        fail(str(error))
