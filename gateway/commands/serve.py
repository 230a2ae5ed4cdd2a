"""``twoparty serve``: the gateway itself."""

from __future__ import annotations

import asyncio
import gc
import resource
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
signal hangs up at once. SIGHUP reads TLS certificates, keys and CAs again; calls go on.
Without --config it serves on loopback with SQLite and recordings under var/.

Example: twoparty serve --config /etc/twoparty.toml
"""


def serve(config: ConfigOption = None) -> None:
    settings = settings_of(config)
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    uvloop.run(_serve(settings, config))


DESCRIPTORS_PER_CALL = 8
"""Six sockets (RTP, RTCP and a connected RTP socket for each leg), a recording, and one to spare."""


def raise_descriptor_limit(calls: int) -> int:
    """Let this process open as many files as it may; how many calls that is enough for, at most ``calls``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return calls if hard == resource.RLIM_INFINITY else min(calls, max(0, hard - 256) // DESCRIPTORS_PER_CALL)


async def _serve(settings: Settings, config: Path | None) -> None:
    from gateway.app import Gateway, StartError

    log = structlog.get_logger("gateway")
    if (enough_for := raise_descriptor_limit(settings.sip.max_calls)) < settings.sip.max_calls:
        log.warning("the limit of open files (ulimit -Hn) is too low for sip.max_calls", enough_for=enough_for)
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
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
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
