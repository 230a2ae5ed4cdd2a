"""A gateway that is killed in a call: the next start finishes the file, and the call's row says what happened."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import soundfile

from config.settings import Trunk
from gateway.app import Gateway
from gateway.store.history import CallFilter
from scripts.audit_recordings import audit
from scripts.demo import tone_level
from scripts.phone import Phone
from tests.support.rig import settings_for, start_gateway

SETTINGS = """
[sip]
listen = ["udp:127.0.0.1:{port}"]
[recording]
root = "{directory}/recordings"
step_seconds = 0.2
[web]
listen = ""
[store]
url = "sqlite:///{directory}/gateway.db"
[[trunks]]
name = "carrier"
host = "127.0.0.1"
port = {carrier}
[[peers]]
name = "pbx"
networks = ["127.0.0.0/8"]
organization = "acme"
user = "alice"
"""


def bound(port: int) -> bool:
    """Whether a UDP port is bound."""
    return f":{port:04X} " in Path("/proc/net/udp").read_text()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_kill_9_in_a_call(tmp_path: Path) -> None:
    carrier = await Phone.open(tone_hz=1000.0, username="carrier")
    agent = await Phone.open(tone_hz=440.0, username="alice")
    settings = settings_for(tmp_path, [Trunk(name="carrier", host="127.0.0.1", port=carrier.port)])
    first = await start_gateway(settings)
    port = int(first.addresses[0].partition(";")[0].rpartition(":")[2])
    await first.stop(0)
    config = tmp_path / "gateway.toml"
    config.write_text(SETTINGS.format(port=port, directory=tmp_path, carrier=carrier.port))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), env={**os.environ, "TWOPARTY_CONFIG": ""}
    )
    try:
        await until(lambda: asyncio.to_thread(bound, port))
        call = await agent.call(f"sip:+12125550123@127.0.0.1:{port}")
        await call.rtp.heard(100)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await agent.close()
        await carrier.close()
    (part,) = (tmp_path / "recordings").rglob("*.wav.part")
    assert soundfile.info(str(part)).duration > 0.8

    gateway = await Gateway.start(settings)
    try:
        history = gateway.store.history

        async def filed() -> bool:
            return bool((await history.recordings(CallFilter())).rows)

        await until(filed)
        (row,) = (await history.calls(CallFilter())).rows
        assert (row.termination, row.ended_by, row.outcome) == ("lost", "gateway", "recovered")
        (recording,) = (await history.recordings(CallFilter())).rows
        assert recording.samples > 6000
    finally:
        await gateway.stop(0)
    samples, rate = soundfile.read(part.with_suffix(""))
    for channel, own, other in ((0, 440.0, 1000.0), (1, 1000.0, 440.0)):
        middle = samples[1000:-1000, channel]
        assert tone_level(middle, own, rate) - tone_level(middle, other, rate) >= 60
    assert audit(tmp_path / "recordings").findings == []
