"""baresip as a softphone: its own process and configuration, told what to do over its ctrl_tcp module.

ctrl_tcp speaks JSON in netstrings; whatever happens to a call or a registration comes as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.sipp import free_port

CONFIG = """\
poll_method epoll
net_interface 127.0.0.1
sip_listen 127.0.0.1:{sip}
call_local_timeout 60
call_max_calls 4
audio_source {source}
audio_player aufile,{directory}/heard.wav
audio_alert aufile,{directory}/alert.wav
audio_level no
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports {media}-{media_end}
jitter_buffer_delay 3-10
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module ausine.so
module ctrl_tcp.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
ctrl_tcp_listen 127.0.0.1:{control}
"""


@dataclass
class Baresip:
    """A running baresip; ``events`` are those that nobody waited for yet, with a ``type`` (CALL_ESTABLISHED...)."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    directory: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                length = int((await self.reader.readuntil(b":"))[:-1])
                message = json.loads(await self.reader.readexactly(length))
                await self.reader.readexactly(1)
                if message.get("event"):
                    self.events.append(message)
                    self._changed.set()

    async def wait_for(self, kind: str, seconds: float = 15.0) -> dict[str, Any]:
        """The next event of a kind that was not waited for before. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                for index, event in enumerate(self.events):
                    if event["type"] == kind:
                        return self.events.pop(index)
                self._changed.clear()
                await self._changed.wait()

    def output(self) -> str:
        """What it printed so far; registration may come before anyone listens for events."""
        return (self.directory / "output.log").read_text("utf-8", "replace")

    async def tell(self, command: str, parameters: str = "") -> None:
        """Give a command of its menu (dial, hangup, hold, resume, dtmf ...)."""
        text = json.dumps({"command": command, "params": parameters, "token": "t"}).encode()
        self.writer.write(b"%d:%s," % (len(text), text))
        await self.writer.drain()

    async def close(self) -> None:
        """End it."""
        self.writer.close()
        if self._task is not None:
            self._task.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


async def start_baresip(directory: Path, account: str, *, source: str) -> Baresip:
    """Start one with an account line of its own format; ``source`` is its audio source (``aufile,PATH``)."""
    directory.mkdir()
    media = free_port() & ~1
    control = free_port()
    (directory / "config").write_text(
        CONFIG.format(
            sip=free_port(), source=source, directory=directory, media=media, media_end=media + 20, control=control
        )
    )
    (directory / "accounts").write_text(account + "\n")
    with (directory / "output.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "baresip", "-f", str(directory), "-4", stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    async with asyncio.timeout(10):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", control)
                break
            except ConnectionRefusedError:
                if process.returncode is not None:
                    raise RuntimeError((directory / "output.log").read_text()) from None
                await asyncio.sleep(0.02)
    made = Baresip(process, reader, writer, directory)
    made._task = asyncio.create_task(made._read())
    return made
