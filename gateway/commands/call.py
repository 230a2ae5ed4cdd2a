"""``twoparty call``: a test softphone (PJSIP), to place or answer one call through the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.common import ConfigOption, settings_of

HELP = """Place a test call with a real SIP softphone (PJSIP), or answer one.

With TARGET (a number or SIP URI) it calls; without, it registers and waits for a call. It has no microphone: it echoes
what it hears. Exit code 1 when the call fails, with the SIP status; 2 when the softphone is not installed.

Examples:

  twoparty call +12125550123 --user demo --password demo

  twoparty call --user demo --password demo --wait 60
"""


def register(root: typer.Typer) -> None:
    """Add ``call`` to the root command."""
    root.command("call", help=HELP)(call)


def call(
    target: Annotated[str | None, typer.Argument(help="Number or SIP URI; without it, wait for a call.")] = None,
    gateway: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The gateway; else the first sip.listen of --config.")
    ] = None,
    user: Annotated[str, typer.Option(help="User name.")] = "demo",
    password: Annotated[str, typer.Option(envvar="TWOPARTY_PASSWORD", help="SIP password.")] = "",
    seconds: Annotated[float, typer.Option(help="How long to talk.")] = 5.0,
    hold: Annotated[float, typer.Option(metavar="SECONDS", help="Hold the call for a while.")] = 0.0,
    dtmf: Annotated[str, typer.Option(help="Digits to send (RFC 4733).")] = "",
    state: Annotated[str, typer.Option(help="X-Prospect-State to send.")] = "",
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="For an answer, or for a call.")] = 60.0,
    transport: Annotated[str, typer.Option(help="udp or tcp.")] = "udp",
    bind: Annotated[str, typer.Option(help="Local address of the softphone.")] = "127.0.0.1",
    register_first: Annotated[bool, typer.Option("--register", help="Register before calling.")] = False,
    log_level: Annotated[int, typer.Option(min=0, max=6, help="PJSIP's own log.")] = 0,
    config: ConfigOption = None,
) -> None:
    from scripts.softphone import main

    if transport not in ("udp", "tcp"):
        raise typer.BadParameter("must be udp or tcp", param_hint="--transport")
    arguments = [
        "--gateway", gateway or _listening(config, transport), "--user", user, "--password", password,
        "--seconds", str(seconds), "--hold", str(hold), "--dtmf", dtmf, "--wait", str(wait),
        "--transport", transport, "--bind", bind, "--log-level", str(log_level),
    ]  # fmt: skip
    if register_first:
        arguments.append("--register")
    if state:
        arguments += ["--header", f"X-Prospect-State: {state}"]
    raise typer.Exit(main([*arguments, *([target] if target is not None else [])]))


def _listening(config: Path | None, transport: str) -> str:
    """The first address of that transport that the settings listen on."""
    for address in settings_of(config).sip.listen:
        if address.transport == transport:
            host = f"[{address.host}]" if ":" in address.host else address.host
            return f"{host}:{address.port}"
    raise typer.BadParameter(f"the settings listen on no {transport} address", param_hint="--transport")
