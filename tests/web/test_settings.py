"""The settings rules of CONSENT.md, as the API enforces them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.store.policies import settings_of
from tests.support.web_client import Site

ADMINS, OTHERS = ("boss", "mara"), ("max", "alice", "sue")

CHANGES: list[tuple[str, Any]] = [
    ("inbound_enabled", True), ("two_party_rule", "prospect"), ("location_basis", "state"),
    ("location_conflict", "stricter"), ("agent_side_only", True), ("skip_two_party_states", True),
    ("never_record.states", ["US-NH"]), ("never_record.enabled", True), ("international.countries", ["GB"]),
    ("international.enabled", True), ("recording_enabled", False), ("allowed_countries", ["GB", "FR"]),
    ("jurisdiction_overrides", ["US-NY"]),
]  # fmt: skip


@pytest.mark.parametrize("username", ADMINS)
async def test_admins_and_managers_with_admin_rights_see_and_change_settings(site: Site, username: str) -> None:
    browser = await site.browser(username)
    before = await browser.get("/policy")
    for number, (setting, value) in enumerate(CHANGES, 1):
        if setting == "two_party_rule" or not site.reviews:
            assert setting not in before["hidden"]
        changed = await browser.set(setting, value)
        assert changed["version"] == number
        assert changed["settings"] == settings_of((await site.store.policies.current("acme")).policy)
        assert changed["changes"], setting
        assert len(site.reviews) == number
    assert [entry.actor for entry in await site.store.audit.entries("acme", limit=3)] == [username] * 3


@pytest.mark.parametrize("username", OTHERS)
async def test_everybody_else_gets_403(site: Site, username: str) -> None:
    browser = await site.browser(username)
    for path in ("/policy", "/policy/versions", "/policy/versions/0", "/policy/diff?from=0&to=0"):
        assert (await browser("GET", path)).status_code == 403
    for setting, value in CHANGES:
        await browser.set(setting, value, 403)
    await browser.send("POST", "/policy/trial", {"number": "+16035550123"}, 403)
    await browser.send("POST", "/policy/simulation", {"settings": {}, "source": "calls"}, 403)
    await browser.send("PUT", "/jurisdictions/US-NY/override", status=403)
    assert (await site.store.policies.current("acme")).version == 0
    assert site.reviews == []


async def test_recording_is_switched_off_by_admins_and_on_again_by_support(site: Site) -> None:
    boss, mara, sue, alice = [await site.browser(name) for name in ("boss", "mara", "sue", "alice")]
    await sue.set("recording_enabled", False, 403)
    await boss.set("recording_enabled", False)
    assert (await alice.get("/session"))["recording_enabled"] is False
    for browser in (boss, mara, alice):
        for value in (True, "on", "On"):
            await browser.set("recording_enabled", value, 403)
    await boss.set("recording_enabled", False)  # it is off already: nothing is refused, nothing changes
    assert (await boss.get("/policy"))["support_contact"] == "support@example.test"
    for nonsense in (1, "yes", None, ["on"]):
        answer = await sue("PUT", "/policy/recording_enabled", json={"value": nonsense})
        assert answer.status_code == 422
    told = await sue.set("recording_enabled", True)
    assert told["settings"] == {"recording_enabled": True}
    assert (await boss.get("/policy"))["settings"]["recording_enabled"] is True
    await boss.set("recording_enabled", True)  # no change


@pytest.mark.parametrize("hiding", ["agent_side_only", "skip_two_party_states"])
async def test_the_two_party_rule_is_hidden_kept_and_comes_back(site: Site, hiding: str) -> None:
    boss = await site.browser("boss")
    await boss.set("two_party_rule", "user")
    changed = await boss.set(hiding, True)
    sections = ["location_basis", "two_party_rule"] if hiding == "agent_side_only" else ["two_party_rule"]
    assert changed["hidden"] == sections
    refused = await boss.set("two_party_rule", "either", 409)
    assert "agent_side_only" in refused["detail"]
    assert refused["setting"] == "two_party_rule"
    assert (await boss.get("/policy"))["settings"]["two_party_rule"] == "user"
    await boss.set(hiding, False)
    assert (await boss.get("/policy"))["hidden"] == []
    await boss.set("two_party_rule", "either")


@pytest.mark.parametrize(
    ("toggle", "members", "choice"),
    [
        ("never_record.enabled", "never_record.states", ["US-NH", "US-CA"]),
        ("international.enabled", "international.countries", ["GB"]),
    ],
)
async def test_a_toggle_waits_for_its_first_choice_and_goes_with_its_last(
    site: Site, toggle: str, members: str, choice: list[str]
) -> None:
    boss = await site.browser("boss")
    pending = toggle.replace("enabled", "pending")
    waiting = await boss.set(toggle, True)
    assert (waiting["settings"][toggle], waiting["settings"][pending]) == (False, True)
    assert waiting["changes"] == [f"{waiting['changes'][0].partition(':')[0]}: on once the first choice is made"]
    chosen = (await boss.set(members, choice))["settings"]
    assert (chosen[toggle], chosen[pending], chosen[members]) == (True, False, sorted(choice))
    cleared = (await boss.set(members, []))["settings"]
    assert (cleared[toggle], cleared[pending]) == (False, False)
    await boss.set(toggle, True)
    assert (await boss.set(toggle, False))["settings"][pending] is False


async def test_only_allowed_countries_can_be_chosen(site: Site) -> None:
    boss = await site.browser("boss")
    await boss.set("allowed_countries", ["GB", "FR"])
    await boss.set("international.countries", ["GB", "DE"], 422)
    await boss.set("international.countries", ["GB"])
    await boss.set("allowed_countries", ["FR"], 422)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("no_such", True), ("version", 7), ("never_record.pending", True), ("never_record", {"enabled": True}),
        ("two_party_rule", "both"), ("two_party_rule", True), ("location_basis", "zip"), ("inbound_enabled", "perhaps"),
        ("never_record.states", ["Atlantis"]), ("never_record.states", "US-NH"),
        ("never_record.states", {"US-NH": "x"}), ("international.countries", ["XX"]),
        ("jurisdiction_overrides", {"US-CA": "one_party"}), ("never_record.states", ["US-NH", "\ud800"]),
    ],
)  # fmt: skip
async def test_what_is_no_setting_or_no_value_is_told(site: Site, setting: str, value: Any) -> None:
    boss = await site.browser("boss")
    answer = await boss.http.put(
        f"/api/v1/policy/{setting}", content=json.dumps({"value": value}),
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await site.store.policies.current("acme")).version == 0


async def test_two_who_change_at_once(site: Site) -> None:
    boss, mara = await site.browser("boss"), await site.browser("mara")
    await boss.set("inbound_enabled", True)
    stale = {"value": True, "after": 0}
    refused = await mara.send("PUT", "/policy/agent_side_only", stale, 409)
    assert "version 1" in refused["detail"]
    await mara.send("PUT", "/policy/agent_side_only", {"value": True, "after": 1})
    settings = (await boss.get("/policy"))["settings"]
    assert (settings["inbound_enabled"], settings["agent_side_only"]) == (True, True)


async def test_versions_and_their_differences(site_on_both: Site) -> None:
    site = site_on_both
    boss, mara = await site.browser("boss"), await site.browser("mara")
    await boss.set("never_record.states", ["US-NH"])
    await mara.set("never_record.enabled", True)
    await boss.set("two_party_rule", "prospect")
    page = await boss.get("/policy/versions", limit=2)
    assert [(v["version"], v["created_by"]) for v in page["items"]] == [(3, "boss"), (2, "mara")]
    assert page["items"][0]["changes"] == ["Two-party consent: prospect location"]
    rest = await boss.get("/policy/versions", limit=2, before=page["next"])
    assert [v["changes"] for v in rest["items"]] == [["States never recorded: New Hampshire"]]
    assert rest["next"] is None
    assert (await boss.get("/policy/versions/0"))["settings"]["two_party_rule"] == "either"
    await boss.get("/policy/versions/4", 404)
    assert await boss.get("/policy/diff", **{"from": 1, "to": 3}) == [
        {"setting": "two_party_rule", "before": "either", "after": "prospect"},
        {"setting": "never_record.enabled", "before": False, "after": True},
    ]


async def test_a_number_is_tried(site: Site) -> None:
    boss = await site.browser("boss")

    async def trial(status: int = 200, **given: Any) -> Any:
        return await boss.send("POST", "/policy/trial", given, status)

    assert (await trial(number="(212) 555-0123"))["reason"] == "one_party"
    found = await trial(number="603 555 0123")
    assert (found["mode"], found["reason"], found["rule"]) == ("agent_only", "prospect_two_party", 12)
    assert [step["rule"] for step in found["trace"]] == list(range(1, 13))
    assert (await trial(number="603 555 0123", settings={"skip_two_party_states": True}))["mode"] == "none"
    assert (await trial(number="nonsense"))["reason"] == "prospect_unknown"
    assert (await trial(number="+12125550123", direction="inbound"))["reason"] == "inbound_not_covered"
    await trial(404, number="+12125550123", username="other-alice")
    await trial(422, number="+12125550123", settings={"no_such": 1})
    await site.store.accounts.change_user("alice", state="US-CA")
    assert (await trial(number="+12125550123", username="alice"))["reason"] == "user_two_party"
    by_state = {"location_basis": "state"}
    assert (await trial(number="+12125550123", prospect_state="NH", settings=by_state))["mode"] == "agent_only"


async def test_jurisdictions_and_overrides(site: Site) -> None:
    boss, alice = await site.browser("boss"), await site.browser("alice")
    found = {row["region"]: row for row in (await alice.get("/jurisdictions"))["items"]}
    assert len(found) == 69
    assert (found["US-NY"]["consent"], found["US-NH"]["consent"]) == ("one_party", "two_party")
    assert all(row["statute"] and row["sources"] and row["reviewed"] for row in found.values())
    row = await boss.send("PUT", "/jurisdictions/US-NY/override")
    assert (row["consent"], row["law"], row["overridden"]) == ("two_party", "one_party", True)
    trial = await boss.send("POST", "/policy/trial", {"number": "+12125550123"})
    assert trial["reason"] == "prospect_two_party"
    row = await boss.send("DELETE", "/jurisdictions/ny/override")
    assert (row["consent"], row["overridden"]) == ("one_party", False)
    await boss.send("PUT", "/jurisdictions/Atlantis/override", status=404)
    actions = [(entry.action, entry.after) for entry in await site.store.audit.entries("acme", limit=2)]
    assert actions == [("policy.change", {"jurisdiction_overrides": []}),
                       ("policy.change", {"jurisdiction_overrides": ["US-NY"]})]  # fmt: skip
