"""A gateway of its own process with the page, people, a carrier and an agent; and Debian's Chromium to look at it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from gateway.sip.digest import ha1
from gateway.store.accounts import Ha1
from gateway.store.store import Store
from scripts.phone import Phone, PhoneCall
from tests.support.store_records import sqlite_url
from tests.support.web_client import HASH, PASSWORD, PEOPLE

_SETTINGS = """
[sip]
listen = ["udp:127.0.0.1:0"]
[media]
port_quarantine_seconds = 0.2
[recording]
root = "{directory}/recordings"
step_seconds = 0.5
[store]
url = "{url}"
[telemetry]
log_format = "json"
[web]
listen = "127.0.0.1:0"
support_contact = "support@example.test"
[[trunks]]
name = "carrier"
host = "127.0.0.1"
port = {carrier}
[[peers]]
name = "pbx"
networks = ["127.0.0.0/8"]
organization = "acme"
"""


@dataclass
class PageRig:
    """Where everything is."""

    directory: Path
    url: str
    store: Store
    carrier: Phone
    agent: Phone
    sip: str

    async def call(self, number: str, packets: int = 60) -> None:
        """One whole call, recorded as the settings say."""
        call, far = await self.start_call(number)
        await asyncio.gather(call.rtp.heard(packets), far.rtp.heard(packets))
        call.hang_up()

    async def start_call(self, number: str) -> tuple[PhoneCall, PhoneCall]:
        call = await self.agent.call(f"sip:{number}@{self.sip}")
        async with asyncio.timeout(10):
            return call, await self.carrier.incoming.get()


@asynccontextmanager
async def page_rig(directory: Path, **environment: str) -> AsyncIterator[PageRig]:
    """``twoparty serve`` with the page; people as in ``web_client``; alice is the agent who calls. ``environment`` is
    laid over the settings."""
    carrier = await Phone.open(tone_hz=1000.0, username="carrier")
    agent = await Phone.open(tone_hz=440.0, username="alice")
    url = sqlite_url(directory / "gateway.db")
    store = await Store.open(url)
    for name, profile in PEOPLE.items():
        hashes = Ha1("twoparty", *(ha1(name, "twoparty", "secret", kind) for kind in ("MD5", "SHA-256")))
        await store.accounts.add_user(
            name, "acme", create_organization=True, password_hash=HASH, credential=hashes, country="US", state="US-TX",
            display_name=name.title(), **profile,
        )  # fmt: skip
    config = directory / "twoparty.toml"
    config.write_text(_SETTINGS.format(directory=directory, url=url, carrier=carrier.port))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TWOPARTY_CONFIG": "", "NICEGUI_SCREEN_TEST_PORT": "", **environment},
    )  # fmt: skip
    drained: asyncio.Task[None] | None = None
    try:
        page, sip = await _addresses(process)
        drained = asyncio.create_task(_drain(process))
        yield PageRig(directory, page, store, carrier, agent, sip)
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()
        if drained is not None:
            await drained
        await store.close()
        await agent.close()
        await carrier.close()


async def _addresses(process: asyncio.subprocess.Process) -> tuple[str, str]:
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while line := await process.stderr.readline():
            said = json.loads(line)
            if said["event"] == "serving":
                return said["web"], said["addresses"][0].removeprefix("sip:").partition(";")[0]
    raise AssertionError("the gateway did not start")


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium without a window."""
    path = shutil.which("chromium")
    assert path is not None, "chromium is not installed; scripts/install_peers.sh does it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


async def log_in(page: Page, url: str, username: str) -> None:
    """Through the form, until the tabs are there."""
    await page.goto(f"{url}/login")
    await page.get_by_label("User name").fill(username)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("tab", name="Live calls").wait_for()
