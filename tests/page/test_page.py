"""The page in a real browser, as each role; every rule of the settings section seen on the page and in the API."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.browser import PageRig, chromium, log_in, page_rig

ARTIFACTS = Path(os.environ.get("TWOPARTY_ARTIFACTS", "artifacts/page"))
expect.set_options(timeout=10_000)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[PageRig]:
    async with page_rig(tmp_path) as made:
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


class Visitor:
    """Somebody at the page. Errors of scripts fail the test at the end."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context, self.page, self.url = context, page, url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._said(message))

    def _said(self, message: Any) -> None:
        if message.type == "error" and "favicon" not in message.text:
            self.errors.append(message.text)

    async def tab(self, name: str) -> None:
        await self.page.get_by_role("tab", name=name).click()

    async def tabs(self) -> list[str]:
        return [(await tab.inner_text()).strip() for tab in await self.page.get_by_role("tab").all()]

    def switch(self, name: str) -> Locator:
        return self.page.get_by_role("switch", name=name)

    def radio(self, name: str) -> Locator:
        return self.page.get_by_role("radio", name=re.compile(f"^{re.escape(name)}"))

    async def told(self, text: str) -> None:
        """An alert says so."""
        await expect(self.page.get_by_role("alert").filter(has_text=text).first).to_be_visible()

    async def api(self, path: str, method: str = "GET", data: Any = None, status: int = 200) -> Any:
        """Ask the API with the browser's own session."""
        csrf = (await (await self.context.request.get(f"{self.url}/api/v1/session")).json())["csrf_token"]
        answer = await self.context.request.fetch(
            f"{self.url}/api/v1{path}", method=method, headers={"x-csrf-token": csrf},
            **({"data": data} if data is not None else {}),
        )  # fmt: skip
        assert answer.status == status, (path, answer.status, await answer.text())
        return await answer.json()

    async def settings(self) -> dict[str, Any]:
        return dict((await self.api("/policy"))["settings"])

    async def set_to(self, setting: str, value: Any) -> None:
        """Wait until the API says that a setting has a value."""
        async with asyncio.timeout(10):
            while (await self.settings())[setting] != value:
                await asyncio.sleep(0.05)

    async def picture(self, name: str) -> None:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)

    async def close(self) -> None:
        await self.context.close()
        assert self.errors == []


async def visit(browser: Browser, rig: PageRig, username: str, **options: Any) -> Visitor:
    context = await browser.new_context(viewport=options.pop("viewport", {"width": 1440, "height": 900}), **options)
    visitor = Visitor(context, await context.new_page(), rig.url)
    await log_in(visitor.page, rig.url, username)
    return visitor


async def test_an_admin_sets_how_calls_are_recorded(browser: Browser, rig: PageRig) -> None:
    """One walk through every section: what the page does, and what the API then says."""
    boss = await visit(browser, rig, "boss")
    assert await boss.tabs() == ["Live calls", "Recordings", "Settings", "Users", "Audit log"]
    await boss.tab("Settings")
    await expect(boss.switch("Enable call recordings")).to_have_attribute("aria-checked", "true")

    # the two-party rule, each choice with what it captures
    await boss.radio("Prospect location").click()
    await boss.told("Two-party consent: prospect location")
    await boss.set_to("two_party_rule", "prospect")
    await expect(boss.radio("User location")).to_contain_text("Only the user's side when the user is in a two-party")
    await boss.radio("User location").click()
    await boss.set_to("two_party_rule", "user")

    # hidden while the states are skipped; the choice is kept
    await boss.switch("Don't record calls in two-party consent states").click()
    await boss.set_to("skip_two_party_states", True)
    await expect(boss.radio("User location")).to_be_hidden()
    await expect(boss.radio("Prospect's state")).to_be_visible()
    refused = await boss.api("/policy/two_party_rule", "PUT", {"value": "either"}, 409)
    assert "skip_two_party_states" in refused["detail"]
    await boss.switch("Don't record calls in two-party consent states").click()
    await boss.set_to("skip_two_party_states", False)
    await expect(boss.radio("User location")).to_have_attribute("aria-checked", "true")

    # hidden with the prospect's side off: both sections
    await boss.switch("Don't record the prospect's side").click()
    await boss.told("Don't record the prospect's side for all calls: on")
    await expect(boss.radio("User location")).to_be_hidden()
    await expect(boss.radio("Prospect's state")).to_be_hidden()
    await boss.api("/policy/two_party_rule", "PUT", {"value": "either"}, 409)
    await boss.switch("Don't record the prospect's side").click()
    await boss.set_to("agent_side_only", False)

    # the basis
    await boss.radio("Prospect's state").click()
    await boss.told("Record calls based on: the prospect's state")
    await boss.set_to("location_basis", "state")
    await boss.radio("The stricter of the two decides").click()
    await boss.set_to("location_conflict", "stricter")
    await boss.radio("Prospect's phone area code").click()
    await boss.set_to("location_basis", "area_code")
    await boss.switch("Record inbound calls").click()
    await boss.set_to("inbound_enabled", True)
    await boss.picture("settings")
    await boss.close()


async def test_states_and_countries_are_picked_and_cleared(browser: Browser, rig: PageRig) -> None:
    boss = await visit(browser, rig, "boss")
    await boss.api("/policy/allowed_countries", "PUT", {"value": ["GB", "FR"]})
    await boss.tab("Settings")
    page = boss.page
    box = page.get_by_role("checkbox", name="Never record calls (for specific states)")
    await box.click()
    await boss.told("on once the first choice is made")
    await boss.set_to("never_record.pending", True)
    assert (await boss.settings())["never_record.enabled"] is False
    await expect(page.get_by_text("Choose at least one state")).to_be_visible()
    for state in ("New Hampshire", "California"):
        await page.get_by_label("Select states").fill(state)
        await page.get_by_role("option", name=state, exact=True).click()
    await boss.set_to("never_record.states", ["US-CA", "US-NH"])
    assert (await boss.settings())["never_record.enabled"] is True
    await page.keyboard.press("Escape")
    note = "Note: calls made to these states will not be recorded: California, New Hampshire."
    await expect(page.get_by_text(note)).to_be_visible()
    await boss.picture("never-record")
    for code in ("US-NH", "US-CA"):  # clearing the set switches the toggle off by itself
        left = [c for c in (await boss.settings())["never_record.states"] if c != code]
        chip = page.locator(".q-chip").filter(has_text="New Hampshire" if code == "US-NH" else "California")
        await chip.get_by_role("button").click()
        await boss.set_to("never_record.states", left)
    await boss.set_to("never_record.enabled", False)
    await expect(box).to_have_attribute("aria-checked", "false")
    await expect(page.get_by_text("Note: calls made")).to_be_hidden()

    abroad = boss.switch("Record calls made to international countries")
    await abroad.click()
    await boss.set_to("international.pending", True)
    await page.get_by_label("Select countries").click()
    await expect(page.get_by_role("option", name="FR")).to_be_visible()
    options = [await option.inner_text() for option in await page.get_by_role("option").all()]
    assert [text.split("\n")[0] for text in options] == ["FR", "GB"]
    await page.get_by_role("option", name="GB").click()
    await boss.set_to("international.countries", ["GB"])
    await page.keyboard.press("Escape")
    await expect(page.get_by_text("Calls of users in the United States to GB: only the user's side.")).to_be_visible()
    await page.locator(".q-chip").filter(has_text="GB").get_by_role("button").click()
    await boss.set_to("international.enabled", False)
    await expect(abroad).to_have_attribute("aria-checked", "false")
    await boss.close()


async def test_recording_goes_off_with_an_admin_and_on_with_support(browser: Browser, rig: PageRig) -> None:
    boss = await visit(browser, rig, "boss")
    await boss.tab("Settings")
    main = boss.switch("Enable call recordings")
    await main.click()
    await boss.told("Enable call recordings: off")
    await boss.set_to("recording_enabled", False)
    await expect(boss.page.get_by_text("contact support@example.test")).to_be_visible()
    await boss.picture("recording-off")
    await main.click()
    await boss.told("only support can switch it on again")
    await expect(main).to_have_attribute("aria-checked", "false")
    assert (await boss.settings())["recording_enabled"] is False
    sue = await visit(browser, rig, "sue")
    assert "Settings" not in await sue.tabs()
    await sue.page.get_by_role("button", name="Switch recording on again").click()
    await sue.told("Enable call recordings: on")
    await boss.set_to("recording_enabled", True)
    await sue.close()
    await boss.close()


@pytest.mark.parametrize(
    ("username", "tabs", "may"),
    [
        ("mara", ["Live calls", "Recordings", "Settings", "Users", "Audit log"], True),
        ("max", ["Live calls", "Recordings"], False),
        ("alice", ["Live calls", "Recordings"], False),
        ("sue", ["Live calls", "Users", "Audit log"], False),
    ],
)
async def test_each_role_has_its_tabs_and_no_more(
    browser: Browser, rig: PageRig, username: str, tabs: list[str], may: bool
) -> None:
    visitor = await visit(browser, rig, username)
    assert await visitor.tabs() == tabs
    status = 200 if may else 403
    await visitor.api("/policy", status=status)
    await visitor.api("/policy/agent_side_only", "PUT", {"value": True}, status)
    if may:
        await visitor.tab("Settings")
        await expect(visitor.switch("Don't record the prospect's side")).to_have_attribute("aria-checked", "true")
    await visitor.picture(f"as-{username}")
    await visitor.page.get_by_role("button", name="Log out").click()
    await expect(visitor.page.get_by_label("User name")).to_be_visible()
    await visitor.page.goto(rig.url)
    await expect(visitor.page).to_have_url(f"{rig.url}/login")
    await visitor.close()


async def test_a_live_call_and_its_recording(browser: Browser, rig: PageRig) -> None:
    """A call is seen as it runs, narrowed by a setting, then heard, with its reason."""
    boss = await visit(browser, rig, "boss")
    page = boss.page
    await expect(page.get_by_text("No calls now.")).to_be_visible()
    call, far = await rig.start_call("+12125550123")
    await asyncio.gather(call.rtp.heard(100), far.rtp.heard(100))
    await expect(page.get_by_text("1 call now.")).to_be_visible()
    await expect(page.get_by_text("Agent: recording")).to_be_visible()
    await expect(page.get_by_text("Prospect: recording")).to_be_visible()
    await page.get_by_role("button", name="Pause recording: call with +12125550123").click()
    await expect(page.get_by_text("Recording paused")).to_be_visible()
    await expect(page.get_by_text("Agent: not recorded")).to_be_visible()
    await boss.picture("live-paused")
    await page.get_by_role("button", name="Resume recording: call with +12125550123").click()
    await expect(page.get_by_text("Agent: recording")).to_be_visible()
    await boss.picture("live")
    await boss.api("/policy/agent_side_only", "PUT", {"value": True})
    await expect(page.get_by_text("Prospect: not recorded")).to_be_visible()
    await call.rtp.heard(len(call.rtp.received) + 50)
    call.hang_up()
    await expect(page.get_by_text("No calls now.")).to_be_visible()

    alice = await visit(browser, rig, "alice")
    page = alice.page
    await alice.tab("Recordings")
    async with asyncio.timeout(10):
        while not (await alice.api("/recordings"))["items"]:
            await asyncio.sleep(0.05)
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("button", name=re.compile(r"^Play: call with \+12125550123")).click()
    wave = page.get_by_role("slider", name="Position in the recording")
    await expect(wave).to_be_visible()
    await expect(page.locator("twoparty-player .agent")).to_be_attached()
    await expect(page.locator("twoparty-player .prospect")).to_be_attached()
    box = await wave.bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    length = await page.evaluate("document.querySelector('twoparty-player audio').duration")
    await expect(wave).not_to_have_attribute("aria-valuenow", "0.0")
    at = await page.evaluate("document.querySelector('twoparty-player audio').currentTime")
    assert abs(at - length / 2) < 0.1 * length
    await wave.press("Home")
    await page.wait_for_function("document.querySelector('twoparty-player audio').currentTime === 0")
    await page.get_by_label("Speed").select_option("2")
    await page.evaluate("document.querySelector('twoparty-player audio').play()")
    await page.wait_for_function("document.querySelector('twoparty-player audio').currentTime > 0.5")
    assert await page.evaluate("document.querySelector('twoparty-player audio').playbackRate") == 2
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download").click()
    saved = await (await downloading.value).path()
    [audio] = (rig.directory / "recordings").rglob("*.wav")
    assert Path(saved).read_bytes() == audio.read_bytes()
    await page.get_by_text("Why was it recorded like this?").click()
    await expect(page.get_by_text("Both sides: everyone who counts is in a one-party consent state.")).to_be_visible()
    await expect(page.get_by_text("the prospect's side is never recorded.").first).to_be_visible()
    await expect(page.get_by_text("the capture was narrowed to: agent's side only")).to_be_visible()
    await expect(page.get_by_text("the recording was paused.")).to_be_visible()
    await alice.picture("recording")
    await alice.close()
    await boss.close()


@pytest.mark.parametrize("file_format", ["flac", "ogg"])
async def test_every_format_is_played(browser: Browser, tmp_path: Path, file_format: str) -> None:
    async with page_rig(tmp_path, TWOPARTY_RECORDING__FORMAT=file_format) as rig:
        await rig.call("+12125550123", packets=100)
        boss = await visit(browser, rig, "boss")
        page = boss.page
        await boss.tab("Recordings")
        async with asyncio.timeout(10):
            while not (items := (await boss.api("/recordings"))["items"]):
                await asyncio.sleep(0.05)
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("button", name=re.compile(r"^Play: call with \+12125550123")).click()
        await expect(page.get_by_role("slider", name="Position in the recording")).to_be_visible()
        audio = "document.querySelector('twoparty-player audio')"
        await page.wait_for_function(f"{audio}.readyState >= 1")
        assert abs(await page.evaluate(f"{audio}.duration") - items[0]["seconds"]) < 0.05
        await page.evaluate(f"{audio}.currentTime = {audio}.duration / 2")
        await page.evaluate(f"{audio}.play()")
        await page.wait_for_function(f"{audio}.currentTime > {audio}.duration * 0.7")
        assert [p.suffix for p in (rig.directory / "recordings").rglob(f"{items[0]['call_id']}.*")] != [".wav"]
        await boss.close()


async def test_a_number_is_tried(browser: Browser, rig: PageRig) -> None:
    boss = await visit(browser, rig, "boss")
    await boss.tab("Settings")
    await boss.page.get_by_label("Number to try").fill("603 555 0123")
    await boss.page.get_by_label("Number to try").press("Enter")
    await expect(boss.page.get_by_text("The prospect is in a two-party consent state.")).to_be_visible()
    await expect(boss.page.locator(".tp-trace tbody tr")).to_have_count(12)
    await boss.page.get_by_role("button", name="Click here for the list of states").click()
    await expect(boss.page.get_by_role("cell", name="New Hampshire")).to_be_visible()
    await boss.close()


async def test_users_and_the_audit_log(browser: Browser, rig: PageRig) -> None:
    boss = await visit(browser, rig, "boss")
    page = boss.page
    await boss.tab("Users")
    await page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("User name").fill("zoe")
    await dialog.get_by_label("Full name").fill("Zoë Ångström")
    await dialog.get_by_label("New password for this page").fill("short")
    await dialog.get_by_role("button", name="Save").click()
    await boss.told("at least 12 characters")
    await dialog.get_by_label("New password for this page").fill("a long enough one")
    await dialog.get_by_label("User location").fill("New Ham")
    await page.get_by_role("option", name="New Hampshire").click()
    await dialog.get_by_role("button", name="Save").click()
    await boss.told("Saved: user zoe")
    await expect(page.get_by_role("list", name="Users").get_by_text("Zoë Ångström")).to_be_visible()
    assert (await boss.api("/users/zoe"))["state"] == "US-NH"
    await page.get_by_role("button", name="Edit zoe").click()
    await page.get_by_role("dialog").get_by_label("Full name").fill("Zoë")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await boss.told("Saved: user zoe")
    await boss.picture("users")
    await boss.tab("Audit log")
    log = page.get_by_role("list", name="Audit log")
    await expect(log.get_by_text("user.add zoe")).to_be_visible()
    await expect(log.get_by_text("display_name: Zoë Ångström → Zoë")).to_be_visible()
    await page.get_by_role("button", name="Check the log").click()
    await boss.told("The log is whole")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Export").click()
    lines = Path(await (await downloading.value).path()).read_text().splitlines()
    assert json.loads(lines[-1])["target"] == "zoe"
    await boss.picture("audit-log")
    await boss.close()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_small_and_large_screens_dark_and_light(
    browser: Browser, rig: PageRig, width: int, scheme: Any
) -> None:
    await rig.call("+12125550123")
    boss = await visit(browser, rig, "boss", viewport={"width": width, "height": 844}, color_scheme=scheme)
    for name in ("Live calls", "Recordings", "Settings", "Users", "Audit log"):
        await boss.tab(name)
        await boss.page.wait_for_timeout(250)  # pictures alone: what is shown settles
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await boss.page.evaluate(overflow) <= 0, name
        await boss.picture(f"{name.lower().replace(' ', '-')}-{width}-{scheme}")
    colors = "getComputedStyle(document.body).backgroundColor"
    assert (await boss.page.evaluate(colors) == "rgb(18, 23, 28)") == (scheme == "dark")
    await boss.close()


async def test_the_keyboard_is_enough(browser: Browser, rig: PageRig) -> None:
    boss = await visit(browser, rig, "boss")
    page = boss.page
    await page.get_by_role("tab", name="Settings").focus()
    await page.keyboard.press("Enter")
    switch = boss.switch("Don't record the prospect's side")
    await switch.focus()
    await page.keyboard.press("Space")
    await boss.set_to("agent_side_only", True)
    await page.keyboard.press("Space")
    await boss.set_to("agent_side_only", False)
    await boss.radio("Prospect location").focus()
    await page.keyboard.press("Space")
    await boss.set_to("two_party_rule", "prospect")
    unnamed = await page.evaluate(
        """[...document.querySelectorAll('button, [role=switch], [role=radio], [role=checkbox], input')]
        .filter(e => e.offsetParent && !e.closest('[role=switch],[role=radio],[role=checkbox]:not(:scope)')
          && !(e.getAttribute('aria-label') || e.innerText || e.labels?.length || e.closest('label'))).length"""
    )
    assert unnamed == 0
    await boss.close()


async def test_a_session_that_ends_leads_to_the_login(browser: Browser, rig: PageRig) -> None:
    boss = await visit(browser, rig, "boss")
    await boss.tab("Settings")
    await expect(boss.switch("Enable call recordings")).to_have_attribute("aria-checked", "true")
    await rig.store.access.set_password("boss", None, by="test")
    await expect(boss.page.get_by_label("User name")).to_be_visible(timeout=10_000)
    assert (await rig.store.policies.current("acme")).version == 0
    await boss.context.close()


async def test_wrong_passwords_are_told_on_the_form(browser: Browser, rig: PageRig) -> None:
    page = await browser.new_page()
    await page.goto(rig.url)
    await page.get_by_label("User name").fill("boss")
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    await expect(page.get_by_label("User name")).to_have_value("boss")
    await page.close()
