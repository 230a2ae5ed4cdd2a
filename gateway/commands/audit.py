"""``twoparty audit``: check a tree of recordings against its manifests and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.common import ConfigOption, settings_of

HELP = """Check every recording against its manifest and its decision.

Channels, length, hash, a mono file where agent_only, no audio where none, orphans, missing files, the chain of
manifests. Without PATH, the recordings of --config are checked. Exit code 1 on any finding.

Example: twoparty audit var/recordings --json
"""


def register(root: typer.Typer) -> None:
    """Add ``audit`` to the root command."""
    root.command("audit", help=HELP)(audit)


def audit(
    path: Annotated[Path | None, typer.Argument(help="The tree of recordings.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    from scripts.audit_recordings import main

    where = path if path is not None else settings_of(config).recording.root
    raise typer.Exit(main([str(where), *(["--json"] if json else [])]))
