"""A draft against past calls and against the dialing list."""

from __future__ import annotations

from typing import Any

from tests.support.store_records import NOW, decided, ended, started
from tests.support.web_client import Browser, Site


async def past_call(site: Site, number: int, prospect: str, mode: str, reason: str, user: str = "alice") -> None:
    user_id = (await site.store.accounts.user(user)).agent.user_id
    facts = {"direction": "outbound", "prospect_number": prospect, "user_country": "US", "user_state": "US-TX"}
    site.store.journal.call_started(
        started(f"call-{number}", minutes=number, user_id=user_id, prospect_number=prospect)
    )
    await site.store.journal.decision_made(decided(f"call-{number}", mode=mode, reason=reason, facts=facts))
    await site.store.journal.call_ended(ended(f"call-{number}"))


async def simulate(browser: Browser, status: int = 200, **given: Any) -> Any:
    return await browser.send("POST", "/policy/simulation", given, status)


async def test_past_calls(site_on_both: Site) -> None:
    site = site_on_both
    for number in range(5):
        await past_call(site, number, "+12125550123", "both", "one_party")
    for number in range(5, 8):
        await past_call(site, number, "+16035550123", "agent_only", "prospect_two_party", "max")
    boss = await site.browser("boss")
    draft = {"agent_side_only": True}
    found = await simulate(boss, settings=draft, source="calls")
    assert (found["calls"], found["changed"]) == (8, 5)
    assert [(t["before"]["mode"], t["after"]["reason"], t["calls"], t["changed"]) for t in found["transitions"]] == [
        ("both", "agent_side_only", 5, True), ("agent_only", "agent_side_only", 3, False),
    ]  # fmt: skip
    assert {example["number"] for example in found["examples"]} == {"+12125550123"}
    assert (await simulate(boss, settings=draft, source="calls", username="max"))["changed"] == 0
    since = NOW.replace(minute=3).isoformat()
    assert (await simulate(boss, settings=draft, source="calls", since=since))["calls"] == 5
    nested = {"never_record": {"enabled": True, "states": ["NY"]}}
    assert (await simulate(boss, settings=nested, source="calls"))["changed"] == 5
    assert (await simulate(await site.browser("other-boss"), settings=draft, source="calls"))["calls"] == 0
    assert (await boss.get("/policy"))["version"] == 0


async def test_the_dialing_list(site_on_both: Site) -> None:
    site = site_on_both
    boss = await site.browser("boss")
    rows = "number,state\n" + "".join(f"+1212555{i:04d},NH\n" for i in range(300)) + "+12125559999,NY\n"
    await boss("POST", "/lists", content=rows, headers={"content-type": "text/csv"})
    found = await simulate(boss, settings={"location_basis": "state"}, source="list")
    assert (found["calls"], found["changed"]) == (301, 300)
    await site.store.accounts.change_user("alice", state="US-CA")
    two_places = await simulate(boss, settings={"location_basis": "state"}, source="list")
    assert two_places["calls"] == 602
    alone = await simulate(boss, settings={"location_basis": "state"}, source="list", username="alice")
    assert (alone["calls"], alone["changed"]) == (301, 0)
    await simulate(boss, 422, settings={"no_such": True}, source="list")
    await simulate(boss, 404, settings={}, source="list", username="other-alice")
