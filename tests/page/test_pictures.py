"""The pictures in README: ``make screenshots`` makes them anew."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from playwright.async_api import expect

from tests.page.test_page import ARTIFACTS, visit
from tests.support.browser import chromium, page_rig


async def test_settings_and_a_recording(tmp_path: Path) -> None:
    """The settings of an organization, and one call that was narrowed half-way."""
    async with page_rig(tmp_path) as rig, chromium() as browser:
        boss = await visit(browser, rig, "boss", viewport={"width": 1280, "height": 1000})
        await boss.api("/policy/never_record.states", "PUT", {"value": ["US-NH", "US-CA"]})
        await boss.api("/policy/never_record.enabled", "PUT", {"value": True})
        call, far = await rig.start_call("+12125550123")
        await asyncio.gather(call.rtp.heard(150), far.rtp.heard(150))
        await boss.api("/policy/agent_side_only", "PUT", {"value": True})
        await call.rtp.heard(len(call.rtp.received) + 80)
        call.hang_up()
        await boss.api("/policy/agent_side_only", "PUT", {"value": False})
        async with asyncio.timeout(10):
            while not (await boss.api("/recordings"))["items"]:
                await asyncio.sleep(0.05)
        page = boss.page
        await boss.tab("Settings")
        await expect(page.get_by_text("Note: calls made to these states")).to_be_visible()
        await page.get_by_label("Number to try").fill("+1 617 555 0123")
        await page.get_by_role("button", name="Try", exact=True).click()
        await expect(page.get_by_text("The prospect is in a two-party consent state.")).to_be_visible()
        await boss.picture("readme-settings")
        await boss.tab("Recordings")
        await page.get_by_role("button", name=re.compile("^Play")).click()
        await page.get_by_text("Why was it recorded like this?").click()
        await expect(page.get_by_text("the capture was narrowed")).to_be_visible()
        await page.wait_for_timeout(600)  # it unfolds
        await page.screenshot(path=ARTIFACTS / "readme-recording.png")
        await boss.close()
