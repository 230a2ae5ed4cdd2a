"""``twoparty policy``: an organization's consent settings, version by version."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gateway.commands.common import ConfigOption, console, fail
from gateway.commands.storing import (
    JsonOption,
    OrganizationOption,
    command_line_user,
    print_json,
    the_organization,
    when,
    with_store,
)
from gateway.consent.policy import Policy, PolicyError, change, hidden_settings
from gateway.store.policies import PolicyVersion, settings_of
from gateway.store.records import OrganizationPolicy
from gateway.store.store import Store

app = typer.Typer(
    help="The consent settings of an organization. Every change is a new version; none is ever edited.",
    epilog="Example: twoparty policy set location_basis state --organization acme",
    no_args_is_help=True,
)

_LISTS = ("never_record.states", "international.countries", "allowed_countries", "jurisdiction_overrides")
_TOGGLES = ("never_record.enabled", "international.enabled")
_UNSET = "(any)"


def register(root: typer.Typer) -> None:
    """Add ``policy`` to the root command."""
    root.add_typer(app, name="policy")


@app.command("show")
def show(
    organization: OrganizationOption = None,
    version: Annotated[int | None, typer.Option("--version", min=0, help="A former one; 0: the defaults.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the settings in force, or those of a former version.

    Examples: twoparty policy show --organization acme
              twoparty policy show --json > policy.json
    """

    async def work(store: Store) -> OrganizationPolicy:
        slug = await the_organization(store, organization)
        return await (store.policies.current(slug) if version is None else store.policies.get(slug, version))

    found = with_store(config, work)
    settings = settings_of(found.policy)
    if json:
        print_json({"organization": found.organization, "version": found.version, "settings": settings})
        return
    hidden = hidden_settings(found.policy)
    table = Table("setting", "value", title=f"{found.organization}, version {found.version}", title_justify="left")
    for name, value in settings.items():
        if not name.endswith(".pending"):
            table.add_row(name, escape(_shown(value)) + _remark(name, settings, hidden))
    console.print(table)


@app.command("set")
def set_(
    setting: Annotated[
        str | None, typer.Argument(metavar="SETTING", help="Its name, see: twoparty policy show.")
    ] = None,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="on, off, a choice, or a list: US-NH,US-CA ('' clears it).")
    ] = None,
    organization: OrganizationOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE.json", help="All settings at once; absent ones: default."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Change a setting. A running gateway decides by the new version within a second.

    Examples: twoparty policy set location_basis state --organization acme
              twoparty policy set never_record.states US-NH,US-CA
              twoparty policy set --file policy.json
    """
    if (file is None) == (setting is None) or (setting is not None and value is None):
        fail("say SETTING and VALUE, or --file FILE.json")

    async def work(store: Store) -> tuple[str, OrganizationPolicy, Policy, int]:
        slug = await the_organization(store, organization)
        current = await store.policies.current(slug)
        wanted = _from_file(file) if file is not None else _changed(current.policy, setting or "", value or "")
        if settings_of(wanted) == settings_of(current.policy):
            return slug, current, wanted, current.version
        by = command_line_user()
        return slug, current, wanted, await store.policies.append(slug, wanted, after=current.version, by=by)

    slug, before, after, version = with_store(config, work)
    if version == before.version:
        typer.echo(f"{slug}: no change, version {version} says so already")
        return
    for line in differences(settings_of(before.policy), settings_of(after)):
        typer.echo(f"{slug}: {line}")
    typer.echo(f"{slug}: version {version} is in force")


@app.command("versions")
def versions(organization: OrganizationOption = None, json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the versions, the newest first, with what each changed.

    Example: twoparty policy versions --organization acme
    """

    async def work(store: Store) -> list[PolicyVersion]:
        return await store.policies.versions(await the_organization(store, organization))

    found = with_store(config, work)
    former = [dict(version.settings) for version in found[1:]] + [settings_of(Policy())]
    changed = [differences(old, version.settings) for version, old in zip(found, former, strict=True)]
    if json:
        print_json(
            [
                {"version": v.version, "at": v.created_at, "by": v.created_by, "changes": c, "settings": v.settings}
                for v, c in zip(found, changed, strict=True)
            ]
        )
        return
    table = Table("version", "time (UTC)", "by", "what changed")
    for version, lines in zip(found, changed, strict=True):
        table.add_row(
            str(version.version), when(version.created_at), escape(version.created_by), escape("\n".join(lines))
        )
    console.print(table)


def differences(before: Any, after: Any) -> list[str]:
    """``setting: old -> new`` for each setting that differs."""
    names = list(dict.fromkeys((*before, *after)))
    return [
        f"{name}: {_shown(before.get(name, _UNSET))} -> {_shown(after.get(name, _UNSET))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _changed(policy: Policy, setting: str, value: str) -> Policy:
    """By the rules of the settings (hidden, pending, switched off by itself)."""
    parsed = [item for item in (part.strip() for part in value.split(",")) if item] if setting in _LISTS else value
    try:
        return change(policy, setting, parsed)
    except PolicyError as error:
        hint = f" (there are: {', '.join(_names())})" if error.reason == "no such setting" else ""
        fail(f"{error}{hint}")


def _names() -> list[str]:
    return sorted({*(name for name in settings_of(Policy()) if not name.endswith(".pending")), *_LISTS})


def _from_file(path: Path) -> Policy:
    try:
        policy = Policy.from_mapping(jsonlib.loads(path.read_text(encoding="utf-8")))
        for toggle in _TOGGLES:  # one that is on without a choice is pending, as on the page
            if settings_of(policy)[toggle]:
                policy = change(policy, toggle, True)
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")
    except (UnicodeDecodeError, jsonlib.JSONDecodeError) as error:
        fail(f"{path}: not JSON: {error}")
    except PolicyError as error:
        fail(f"{path}: {error}")
    return policy


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "(none)"
    return str(value)


def _remark(name: str, settings: dict[str, Any], hidden: frozenset[str]) -> str:
    if name in hidden:
        return "  [dim](hidden: it plays no part now)[/]"
    family, _, part = name.partition(".")
    if part == "enabled" and settings.get(f"{family}.pending"):
        return "  [dim](pending: on with the first choice)[/]"
    return ""
