"""``twoparty serve``: the gateway itself."""

from __future__ import annotations

import asyncio
import gc
import signal
from pathlib import Path

import structlog
import typer
import uvloop

from config.settings import Settings
from gateway.commands.common import ConfigOption, fail, settings_of
from gateway.telemetry import configure_logging


def register(root: typer.Typer) -> None:
    """Add ``serve`` to the root command."""
    root.command("serve", help=_HELP)(serve)


_HELP = """Run the gateway until Ctrl-C or SIGTERM.

It then drains: new calls get 503, live ones may finish within sip.drain_seconds, every recording is closed. A second
signal hangs up at once. Without --config it serves on loopback with SQLite and recordings under var/.

Example: twoparty serve --config /etc/twoparty.toml
"""


def serve(config: ConfigOption = None) -> None:
    settings = settings_of(config)
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    uvloop.run(_serve(settings, config))


async def _serve(settings: Settings, config: Path | None) -> None:
    from gateway.app import Gateway, StartError

    log = structlog.get_logger("gateway")
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    try:
        gateway = await Gateway.start(settings)
    except StartError as error:
        fail(f"{config or 'embedded defaults'}: {error}", 1)
    gc.collect()
    gc.freeze()  # what is there now stays; collections look at calls alone
    gc.set_threshold(20_000, 20, 20)
    web = gateway.web_server.url if gateway.web_server is not None else None
    log.info("serving", addresses=gateway.addresses, web=web, recordings=str(settings.recording.root))
    await signals.get()
    log.info("draining", live_calls=len(gateway.calls.calls), seconds=settings.sip.drain_seconds)
    stopping = asyncio.create_task(gateway.stop())
    again = asyncio.create_task(signals.get())
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        log.info("second signal: hanging up")
        gateway.calls.hang_up_all()
    await stopping
    again.cancel()
    log.info("stopped")
