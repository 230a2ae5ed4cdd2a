"""``twoparty user``: agents, their location, passwords and numbers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gateway.commands.common import ConfigOption, console, fail, settings_of
from gateway.commands.storing import JsonOption, OrganizationOption, command_line_user, print_json, with_store
from gateway.consent.places import parse_country, parse_state
from gateway.sip.digest import ha1
from gateway.store.accounts import Ha1, User
from gateway.store.store import Store

app = typer.Typer(
    help="Users: the agents who call. Country and state are their location, which the consent decision needs.",
    epilog="Example: twoparty user add alice --organization acme --country US --state NH --did +16035550100",
    no_args_is_help=True,
)

CountryOption = Annotated[
    str | None, typer.Option("--country", metavar="CC", help="ISO 3166 code, e.g. US. '' clears it.")
]
StateOption = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help="NH, US-NH or 'New Hampshire'. '' clears it.")
]
NameOption = Annotated[str | None, typer.Option("--display-name", metavar="NAME", help="Full name.")]
RoleOption = Annotated[str | None, typer.Option("--role", help="agent, manager, admin or support.")]
PasswordStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the SIP password from the first line of standard input.")
]


AdminRightsOption = Annotated[
    bool | None,
    typer.Option("--admin-rights/--no-admin-rights", help="Of a manager: may do on the page what an admin may."),
]


def register(root: typer.Typer) -> None:
    """Add ``user`` to the root command."""
    root.add_typer(app, name="user")


@app.command("add")
def add(
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="The SIP user, unique over all organizations.")],
    organization: Annotated[str, typer.Option("--organization", "-o", metavar="SLUG", help="The user's organization.")],
    country: CountryOption = None,
    state: StateOption = None,
    display_name: NameOption = None,
    role: RoleOption = None,
    admin_rights: AdminRightsOption = None,
    did: Annotated[
        list[str] | None, typer.Option("--did", metavar="NUMBER", help="A number that rings here. Repeatable.")
    ] = None,
    password_stdin: PasswordStdinOption = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="No SIP login: calls are taken from a trusted peer alone.")
    ] = False,
    web_password: Annotated[
        bool, typer.Option("--web-password", help="Ask for a password for the page too (of 12 characters at least).")
    ] = False,
    web_password_stdin: Annotated[
        bool, typer.Option("--web-password-stdin", help="Read it from standard input (after the SIP password's line).")
    ] = False,
    create_organization: Annotated[
        bool, typer.Option("--create-organization", help="Make the organization when it is not there.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Add a user. The password is asked for; what is stored are its digests for the realm of the settings.

    Without country or state the consent engine records less: it takes what it does not know for two-party.

    Examples: twoparty user add alice -o acme --country US --state NH --did +16035550100
              echo secret | twoparty user add bob -o acme --password-stdin --create-organization
              twoparty user add boss -o acme --role admin --no-password --web-password   (the first admin of the page)
    """
    profile = _profile(country, state, display_name, role, None)
    _admin_rights(profile, admin_rights, None)
    credential = None if no_password else _credential(username, config, password_stdin)
    password_hash = _web_hash(username, web_password_stdin) if web_password or web_password_stdin else None

    async def work(store: Store) -> User:
        return await store.accounts.add_user(
            username,
            organization,
            credential=credential,
            numbers=did or (),
            create_organization=create_organization,
            password_hash=password_hash,
            by=command_line_user(),
            **profile,
        )

    user = with_store(config, work)
    typer.echo(f"user {username} added to {organization}{_numbers(user)}")
    if user.agent.country is None or user.agent.state is None:
        typer.echo("note: without --country and --state fewer calls are recorded", err=True)


@app.command("set")
def set_(
    username: Annotated[str, typer.Argument(metavar="USERNAME")],
    country: CountryOption = None,
    state: StateOption = None,
    display_name: NameOption = None,
    role: RoleOption = None,
    admin_rights: AdminRightsOption = None,
    did: Annotated[
        list[str] | None, typer.Option("--did", metavar="NUMBER", help="Add a number that rings here. Repeatable.")
    ] = None,
    remove_did: Annotated[
        list[str] | None, typer.Option("--remove-did", metavar="NUMBER", help="Take a number away. Repeatable.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="A disabled user can't call, register or be called.")
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new SIP password.")] = False,
    password_stdin: PasswordStdinOption = False,
    config: ConfigOption = None,
) -> None:
    """Change what is given, and nothing else. A running gateway sees it within a second.

    Examples: twoparty user set alice --state MA
              twoparty user set alice --disabled
    """
    credential = _credential(username, config, password_stdin) if password or password_stdin else None

    async def work(store: Store) -> User:
        current = await store.accounts.user(username)
        profile = _profile(country, state, display_name, role, current)
        _admin_rights(profile, admin_rights, current)
        if enabled is not None:
            profile["enabled"] = enabled
        return await store.accounts.change_user(
            username, credential=credential, add_numbers=did or (), remove_numbers=remove_did or (),
            by=command_line_user(), **profile,
        )  # fmt: skip

    user = with_store(config, work)
    place = user.agent.state or user.agent.country or "no location"
    condition = "enabled" if user.agent.enabled else "disabled"
    typer.echo(f"user {username}: {user.role}, {place}, {condition}{_numbers(user)}")


@app.command("login")
def login(
    username: Annotated[str, typer.Argument(metavar="USERNAME")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the password away: no login on the page.")] = False,
    config: ConfigOption = None,
) -> None:
    """Set the password for the page. Sessions that are open end; a user locked by wrong passwords is free again.

    Examples: twoparty user login boss
              twoparty user login boss --remove
    """
    made = None if remove else _web_hash(username, password_stdin)
    with_store(config, lambda store: store.access.set_password(username, made, by=command_line_user()))
    typer.echo(f"user {username}: password for the page {'removed' if remove else 'set'}")


@app.command("list")
def list_(organization: OrganizationOption = None, json: JsonOption = False, config: ConfigOption = None) -> None:
    """List users. A realm other than that of the settings means that the password must be set again.

    Example: twoparty user list --organization acme
    """
    found = with_store(config, lambda store: store.accounts.users(organization))
    if json:
        print_json(
            [{**asdict(u.agent), "role": u.role, "dids": list(u.dids), "realm": u.realm, "created_at": u.created_at}
             | {"admin_rights": u.admin_rights, "web_login": u.web_login} for u in found]
        )  # fmt: skip
        return
    table = Table("user", "organization", "name", "role", "country", "state", "DIDs", "password", "enabled")
    realm = settings_of(config).sip.realm
    for u in found:
        agent = u.agent
        password = "none" if u.realm is None else "set" if u.realm == realm else f"void (realm {u.realm})"
        table.add_row(
            escape(agent.username),
            agent.organization,
            escape(agent.display_name),
            u.role + (" (admin rights)" if u.admin_rights else ""),
            agent.country or "-",
            agent.state or "-",
            " ".join(u.dids) or "-",
            escape(password),
            "yes" if agent.enabled else "[red]no[/]",
        )
    console.print(table)


def _admin_rights(profile: dict[str, Any], wanted: bool | None, current: User | None) -> None:
    """Admin rights are a manager's; who is none any more has none."""
    role = profile.get("role", current.role if current is not None else "agent")
    if wanted and role != "manager":
        fail(f"--admin-rights: these are a manager's, and the role is {role}")
    if wanted is not None:
        profile["admin_rights"] = wanted
    elif role != "manager":
        profile["admin_rights"] = False


def _web_hash(username: str, from_stdin: bool) -> str:
    from gateway.web.passwords import WeakPassword, hash_password

    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt(f"Password of {username} for the page", hide_input=True, confirmation_prompt=True)
    else:
        fail("there is no terminal to ask for the password on; give it on standard input (--help says how)")
    try:
        return hash_password(password, username)
    except WeakPassword as error:
        fail(f"the password for the page: {error}")


def _numbers(user: User) -> str:
    return f", rings for {', '.join(user.dids)}" if user.dids else ""


def _profile(
    country: str | None, state: str | None, display_name: str | None, role: str | None, current: User | None
) -> dict[str, Any]:
    """The fields that were given, checked; an error names its option."""
    profile: dict[str, Any] = {}
    if country is not None:
        profile["country"] = _country(country) if country else None
    if state is not None:
        profile["state"] = _state(state) if state else None
    _agree(profile, current)
    if display_name is not None:
        profile["display_name"] = display_name
    if role is not None:
        profile["role"] = role
    return profile


def _agree(profile: dict[str, Any], current: User | None) -> None:
    """A state lies in its country: where the country was never said, the state says it."""
    before = current.agent if current is not None else None
    state = profile.get("state", before.state if before is not None else None)
    country = profile.get("country", before.country if before is not None else None)
    if not state:
        return
    if country is None and "country" not in profile:
        profile["country"] = state[:2]
    elif country != state[:2]:
        option = "--state" if "state" in profile else "--country"
        fail(f"{option}: {state} is not in {country or 'no country'}; give --country and --state that agree")


def _country(text: str) -> str:
    code, region = parse_country(text)
    if region is not None:
        fail(f"--country: {text} is a territory of the United States: --country US --state {region}")
    if code is None:
        fail(f"--country: {text!r} is not an ISO 3166 country code such as US")
    return code


def _state(text: str) -> str:
    found = parse_state(text)
    if found is None:
        fail(
            f"--state: {text!r} is not a US state or territory, DC or a Canadian province; write NH, US-NH or its name"
        )
    return found


def _credential(username: str, config: Any, from_stdin: bool) -> Ha1:
    realm = settings_of(config).sip.realm
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt(f"SIP password of {username}", hide_input=True, confirmation_prompt=True)
    else:
        fail("--password-stdin: there is no terminal to ask for the password on; give it on standard input")
    if not password:
        fail("--password-stdin: the password is empty")
    return Ha1(realm, ha1(username, realm, password, "MD5"), ha1(username, realm, password, "SHA-256"))
