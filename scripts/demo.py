"""The main job, shown: carrier, agent and gateway on loopback, one call for each of ``both``, ``agent_only``, ``none``.

Each side plays a tone of its own; afterwards the files are read back, and the level of each tone on each channel is
measured. ``--serve`` then leaves the gateway serving on the embedded defaults, with a test carrier behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import uvloop
from rich.console import Console
from rich.table import Table

from config.settings import Settings, load
from gateway.app import Gateway, StartError
from gateway.consent.policy import Policy
from gateway.sip.digest import ha1
from gateway.store.accounts import Ha1
from gateway.telemetry import configure_logging
from gateway.web.passwords import hash_password
from scripts.phone import Phone, PhoneCall

AGENT_HZ, PROSPECT_HZ = 440.0, 1000.0
SECONDS = 3.0
console = Console()


@dataclass(frozen=True, slots=True)
class Scene:
    """One call of the demo."""

    number: str
    where: str
    never_record: tuple[str, ...] = ()


SCENES = (
    Scene("+12125550123", "New York: one-party consent"),
    Scene("+14155550123", "California: two-party consent"),
    Scene("+16035550123", "New Hampshire: on the never-record list", ("US-NH",)),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of one call."""

    scene: Scene
    mode: str
    reason: str
    outcome: str
    file: str
    channels: int
    levels: tuple[tuple[float, float], ...]
    """Per channel: the level of the agent's tone and of the prospect's, in dBFS."""


def tone_level(samples: np.ndarray[Any, Any], hertz: float, rate: int) -> float:
    """The level of one frequency in dBFS (a full-scale sine is 0), by a windowed Fourier sum; at least -120."""
    if len(samples) == 0:
        return -120.0
    window = np.hanning(len(samples))
    turns = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / rate)
    amplitude = 2 * abs(np.sum(samples * window * turns)) / np.sum(window)
    return max(-120.0, float(20 * np.log10(max(amplitude, 1e-6))))


async def show(directory: Path) -> list[Shown]:
    """Run the three calls on a gateway of their own under ``directory``."""
    carrier = await Phone.open(tone_hz=PROSPECT_HZ, username="carrier")
    agent = await Phone.open(tone_hz=AGENT_HZ, username="demo", password="demo")
    gateway = await Gateway.start(demo_settings(directory, carrier.port))
    try:
        await prepare(gateway, "demo", "demo", "demo", never_record=SCENES[2].never_record)
        server = gateway.addresses[0].partition(";")[0].removeprefix("sip:")
        await asyncio.gather(*(one_call(agent, f"sip:{scene.number}@{server}") for scene in SCENES))
        await gateway.calls.drain(5)
    finally:
        await gateway.stop(0)
        await agent.close()
        await carrier.close()
    return [read_back(directory / "recordings", scene) for scene in SCENES]


async def one_call(agent: Phone, uri: str) -> None:
    """Call, talk for a while, hang up."""
    call: PhoneCall = await agent.call(uri)
    await call.rtp.heard(int(SECONDS / 0.02))
    call.hang_up()


def demo_settings(directory: Path, carrier_port: int) -> Settings:
    """The embedded defaults, but on ports of the system's choice and with everything under ``directory``."""
    return load().model_copy(
        update={
            "sip": load().sip.model_copy(update={"listen": (type(load().sip.listen[0])(
                transport="udp", host="127.0.0.1", port=0),)}),
            "recording": load().recording.model_copy(update={"root": directory / "recordings"}),
            "store": load().store.model_copy(update={"url": f"sqlite:///{directory / 'demo.db'}"}),
            "web": load().web.model_copy(update={"listen": ""}),
            "trunks": (load().trunks[0].model_copy(update={"port": carrier_port}),),
        }
    )  # fmt: skip


async def prepare(
    gateway: Gateway, organization: str, username: str, password: str, never_record: tuple[str, ...] = ()
) -> None:
    """An organization with one agent in Texas, and its policy; what is there already stays as it is."""
    store, realm = gateway.store, gateway.settings.sip.realm
    if await store.directory.agent(username) is None:
        hashes = [ha1(username, realm, password, algorithm) for algorithm in ("MD5", "SHA-256")]
        await store.accounts.add_user(
            username, organization, credential=Ha1(realm, *hashes), create_organization=True, display_name="Demo agent",
            country="US", state="US-TX",
        )  # fmt: skip
    if never_record:
        policy = Policy.from_mapping({"never_record": {"enabled": True, "states": list(never_record)}})
        await store.policies.append(organization, policy, after=0, by="demo")


async def prepare_admin(gateway: Gateway, organization: str, username: str) -> str:
    """An admin for the page with a new password, which is given back: there is no default one."""
    password = secrets.token_urlsafe(12)
    if username not in {user.agent.username for user in await gateway.store.accounts.users(organization)}:
        await gateway.store.accounts.add_user(
            username, organization, role="admin", country="US", state="US-TX", display_name="Demo admin"
        )
    await gateway.store.access.set_password(username, hash_password(password), by="demo")
    return password


def read_back(root: Path, scene: Scene) -> Shown:
    """Find the call's manifest by its number, and measure its file."""
    for path in sorted(root.glob("*/*/*/*/*.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["call"]["prospect"]["number"] == scene.number:
            break
    else:
        raise SystemExit(f"no manifest for {scene.number} under {root}")
    audio = path.with_suffix(".wav")
    decision = manifest["decision"]
    levels: list[tuple[float, float]] = []
    channels = 0
    if audio.exists():
        samples, rate = soundfile.read(audio, always_2d=True)
        channels = samples.shape[1]
        middle = samples[int(0.5 * rate) : -int(0.2 * rate)]
        levels = [tuple(tone_level(middle[:, c], f, rate) for f in (AGENT_HZ, PROSPECT_HZ)) for c in range(channels)]  # type: ignore[misc]
    shown = str(audio.relative_to(root)) if audio.exists() else "no audio file"
    return Shown(scene, decision["mode"], decision["reason"], manifest["outcome"], shown, channels, tuple(levels))


def table_of(shown: list[Shown]) -> Table:
    table = Table(title=f"Agent in Texas plays {AGENT_HZ:.0f} Hz, prospect plays {PROSPECT_HZ:.0f} Hz")
    for name in ("prospect", "decision", "file", "channel", f"{AGENT_HZ:.0f} Hz", f"{PROSPECT_HZ:.0f} Hz"):
        table.add_column(name, overflow="fold")
    for item in shown:
        lines = item.levels or ((float("nan"), float("nan")),)
        for index, (agent, prospect) in enumerate(lines):
            name = "-" if not item.levels else ("agent", "prospect")[index]
            levels = ["-", "-"] if not item.levels else [f"{agent:.0f} dB", f"{prospect:.0f} dB"]
            first = [f"{item.scene.number}\n{item.scene.where}", f"{item.mode}\n{item.reason}", item.file]
            table.add_row(*(first if index == 0 else ["", "", ""]), name, *levels)
        table.add_section()
    return table


def problems(shown: list[Shown]) -> list[str]:
    """What is not as it should be; empty when the demo shows what it claims."""
    found = []
    for item, mode, channels in zip(shown, ("both", "agent_only", "none"), (2, 1, 0), strict=True):
        if item.mode != mode or item.channels != channels:
            found.append(
                f"{item.scene.number}: expected {mode} with {channels} channels, got {item.mode} with {item.channels}"
            )
        for index, levels in enumerate(item.levels):
            own, other = levels[index], levels[1 - index]
            if own < -30 or own - other < 60:
                found.append(f"{item.scene.number}: channel {index}: own tone {own:.0f} dB, the other's {other:.0f} dB")
    return found


async def serve() -> int:
    """The gateway on its embedded defaults, with a test carrier on the default trunk's port."""
    settings = load()
    trunk = settings.trunks[0]
    try:
        carrier = await Phone.open(trunk.host, "udp", tone_hz=PROSPECT_HZ, username="carrier", port=trunk.port)
    except OSError as error:
        console.print(f"[red]The test carrier could not start:[/] {error.strerror or error}", highlight=False)
        return 1
    try:
        gateway = await Gateway.start(settings)
    except StartError as error:
        console.print(f"[red]The gateway could not start:[/] {error}", highlight=False)
        await carrier.close()
        return 1
    await prepare(gateway, "demo", "demo", "demo")
    password = await prepare_admin(gateway, "demo", "admin")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    addresses = "\n".join(f"  {address}" for address in gateway.addresses)
    page = f"{gateway.web_server.url}" if gateway.web_server is not None else "nowhere (web.listen is empty)"
    told = HOW_TO.format(addresses=addresses, trunk=trunk, page=page, password=password)
    console.print(told, highlight=False)
    await stop.wait()
    console.print("Draining …")
    await gateway.stop(min(5.0, settings.sip.drain_seconds))
    await carrier.close()
    return 0


HOW_TO = """
[bold]Serving.[/] Call any number at
{addresses}
as user [bold]demo[/], password [bold]demo[/]; a test carrier on {trunk.host}:{trunk.port} answers and plays a tone.
The page is at [bold]{page}[/]: user [bold]admin[/], password [bold]{password}[/] (made just now).

Next, in another terminal:
  scripts/install.sh softphone && .venv/bin/twoparty call +12125550123 --user demo --password demo
  .venv/bin/twoparty recordings
  .venv/bin/twoparty audit
Ctrl-C drains and stops."""


def main() -> int:
    """Run the demo, or with ``--serve`` the gateway behind a test carrier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve on the embedded defaults after all")
    parser.add_argument("--keep", type=Path, help="keep database and recordings here (default: a temporary directory)")
    arguments = parser.parse_args()
    configure_logging("warning", "console")
    if arguments.serve:
        return uvloop.run(serve())
    with tempfile.TemporaryDirectory(prefix="twoparty-demo-") as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        console.print(f"Three calls of {SECONDS:.0f} s through a gateway on loopback …")
        shown = uvloop.run(show(directory))
        console.print(table_of(shown))
        for problem in (found := problems(shown)):
            console.print(f"[red]{problem}[/]")
        return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
