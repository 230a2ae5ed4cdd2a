"""``twoparty audit``: recordings against their manifests and decisions, and the audit log against its chain."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gateway.commands.common import ConfigOption, fail, settings_of
from gateway.commands.storing import with_store
from gateway.store.audit import Broken, verify
from gateway.store.store import Store

HELP = """Check every recording against its manifest and its decision, and the audit log against its chain of hashes.

Recordings: channels, length, hash, a mono file where agent_only, no audio where none, orphans, missing files, the chain
of manifests. Audit log: the first broken entry of each organization is named. With PATH, that tree of recordings alone
is checked; with --log, an exported log alone. Exit code 1 on any finding.

Examples: twoparty audit
          twoparty audit var/recordings --json
          twoparty audit --log acme-audit.jsonl
"""


def register(root: typer.Typer) -> None:
    """Add ``audit`` to the root command."""
    root.command("audit", help=HELP)(audit)


def audit(
    path: Annotated[Path | None, typer.Argument(help="A tree of recordings.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE.jsonl", help="An exported audit log (JSON lines), alone.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    from scripts.audit_recordings import Report, show
    from scripts.audit_recordings import audit as audit_recordings

    if log is not None and path is not None:
        fail("say PATH or --log, not both")
    report: Report | None = None
    if log is None:
        root = path if path is not None else settings_of(config).recording.root
        if root.is_dir():
            report = audit_recordings(root)
        elif path is not None:
            fail(f"{path} is not a directory")
    logs = [_exported(log)] if log is not None else [] if path is not None else with_store(config, _stored)
    broken = [found for _, _, found in logs if found is not None]
    if json:
        audited = {name: {"entries": count, "broken": asdict(found) if found else None} for name, count, found in logs}
        print(jsonlib.dumps((asdict(report) if report else {}) | {"audit_log": audited}, indent=2))
    else:
        if report is not None:
            show(report, Console())
        for name, count, found in logs:
            typer.echo(f"audit log of {name}: intact, {count} entries" if found is None else f"audit log of {found}")
    raise typer.Exit(1 if broken or (report is not None and report.findings) else 0)


Checked = tuple[str, int, Broken | None]
"""Organization, how many entries, the first broken one."""


async def _stored(store: Store) -> list[Checked]:
    found = []
    for organization in await store.accounts.organizations():
        last = await store.audit.entries(organization.slug, limit=1)
        count = last[0].sequence if last else 0
        found.append((organization.slug, count, await store.audit.verify(organization.slug)))
    return found


def _exported(path: Path) -> Checked:
    last: dict[str, Any] = {}

    def entries() -> Iterator[dict[str, Any]]:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                entry = jsonlib.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError(f"line {number} is not an object")
                last.update(entry)
                yield entry

    try:
        broken = verify(entries())
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")
    except ValueError as error:
        fail(f"{path}: not JSON lines: {error}")
    sequence = last.get("sequence", 0)
    return str(last.get("organization", path.name)), sequence if isinstance(sequence, int) else 0, broken
