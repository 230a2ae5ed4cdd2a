"""The ``twoparty`` command. Each sub-command lives in ``gateway/commands``, which this module gathers."""

from __future__ import annotations

import typer

from gateway.commands import audit, call, calls, decide, lists, organizations, policy, recordings, serve, user

app = typer.Typer(
    name="twoparty",
    help="Consent-gated SIP recording gateway: bridges calls, asks whether each may be recorded, records no more.",
    epilog="Start here: `twoparty serve`, then `twoparty user add --help` and `twoparty call --help`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (serve, decide, call, user, policy, lists, organizations, calls, recordings, audit):
    command.register(app)


def main() -> None:
    """Entry point of the ``twoparty`` script."""
    app()


if __name__ == "__main__":
    main()
