"""Settings changed through the API at a whole gateway, and a real call for each: decided as CONSENT.md says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.audit_recordings import audit
from tests.support.rig import Rig, start_rig
from tests.support.web_client import HASH, PASSWORD

NEW_YORK, CALIFORNIA, NEW_HAMPSHIRE, LONDON = "+12125550123", "+14155550123", "+16035550123", "+442079460123"

CASES: list[tuple[list[tuple[str, Any]], str, str, str, int]] = [
    ([], NEW_YORK, "both", "one_party", 2),
    ([("two_party_rule", "prospect")], CALIFORNIA, "agent_only", "prospect_two_party", 1),
    ([("agent_side_only", True)], NEW_YORK, "agent_only", "agent_side_only", 1),
    ([("agent_side_only", False), ("skip_two_party_states", True)], CALIFORNIA, "none", "two_party_state_skipped", 0),
    ([("skip_two_party_states", False), ("never_record.states", ["US-NH"]), ("never_record.enabled", True)],
     NEW_HAMPSHIRE, "none", "never_record_state", 0),
    ([("never_record.states", [])], NEW_HAMPSHIRE, "agent_only", "prospect_two_party", 1),
    ([], LONDON, "none", "international_not_allowed", 0),
    ([("allowed_countries", ["GB"]), ("international.countries", ["GB"]), ("international.enabled", True)],
     LONDON, "agent_only", "international_allowed", 1),
    ([("location_basis", "state")], NEW_YORK, "agent_only", "prospect_state_missing", 1),
    ([("location_basis", "area_code"), ("jurisdiction_overrides", ["US-NY"])],
     NEW_YORK, "agent_only", "prospect_two_party", 1),
    ([("jurisdiction_overrides", []), ("recording_enabled", False)], NEW_YORK, "none", "recording_disabled", 0),
]  # fmt: skip


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = await start_rig(tmp_path, web={"listen": "127.0.0.1:0", "page": False})
    await made.gateway.store.accounts.add_user("boss", "acme", role="admin", password_hash=HASH)
    yield made
    await made.close()


@pytest.fixture
async def rig_on_both(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    """The gateway's own store on SQLite and PostgreSQL in turn."""
    made = await start_rig(tmp_path, web={"listen": "127.0.0.1:0", "page": False}, store={"url": database_url})
    await made.gateway.store.accounts.add_user("boss", "acme", role="admin", password_hash=HASH)
    yield made
    await made.close()


async def logged_in(rig: Rig) -> httpx.AsyncClient:
    assert rig.gateway.web_server is not None
    client = httpx.AsyncClient(base_url=f"{rig.gateway.web_server.url}/api/v1", timeout=20)
    answer = await client.post("/session", json={"username": "boss", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf_token"]
    return client


async def test_a_call_for_each_of_ten_settings(rig: Rig) -> None:
    api = await logged_in(rig)
    for number, (changes, prospect, mode, reason, channels) in enumerate(CASES):
        for setting, value in changes:
            answer = await api.put(f"/policy/{setting}", json={"value": value})
            assert answer.status_code == 200, answer.text
        call, far = await rig.call(prospect)
        (live,) = (await api.get("/calls/live")).json()
        assert (live["mode"], live["reason"]) == (mode, reason), number
        await asyncio.gather(call.rtp.heard(60), far.rtp.heard(60))
        (live,) = (await api.get("/calls/live")).json()
        assert (live["agent_captured"], live["prospect_captured"]) == (channels >= 1, channels == 2)
        await rig.hang_up(call, far)
        await rig.until(lambda: not rig.gateway.calls.live("acme"))
        recording = await stored(api, live["call_id"])
        assert (recording["mode"], recording["reason"], recording["channels"]) == (mode, reason, channels)
        audio = await api.get(f"/recordings/{live['call_id']}/audio")
        assert audio.status_code == (200 if channels else 404)
        manifest = (await api.get(f"/recordings/{live['call_id']}/manifest")).json()
        decision = (await api.get(f"/calls/{live['call_id']}/decisions")).json()[0]
        assert manifest["decision"] == decision["answer"]
        assert decision["policy_version"] == (await api.get("/policy")).json()["version"]
    assert audit(rig.directory / "recordings").findings == []
    assert await rig.gateway.store.audit.verify("acme") is None
    await api.aclose()


async def stored(api: httpx.AsyncClient, call_id: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (answer := await api.get(f"/recordings/{call_id}")).status_code != 200:
            await asyncio.sleep(0.02)
    return dict(answer.json())


async def test_a_stricter_setting_stops_capture_before_the_answer_to_the_change(rig_on_both: Rig) -> None:
    rig = rig_on_both
    api = await logged_in(rig)
    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(60), far.rtp.heard(60))
    assert (await api.put("/policy/agent_side_only", json={"value": True})).status_code == 200
    (live,) = (await api.get("/calls/live")).json()
    assert (live["mode"], live["agent_captured"], live["prospect_captured"]) == ("agent_only", True, False)
    assert (await api.put("/policy/recording_enabled", json={"value": False})).status_code == 200
    (live,) = (await api.get("/calls/live")).json()
    assert (live["agent_captured"], live["prospect_captured"]) == (False, False)
    await call.rtp.heard(len(call.rtp.received) + 30)
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    assert [event["mode"] for event in recorded.manifest["events"] if event["event"] == "narrow"] == [
        "agent_only",
        "none",
    ]
    assert audit(rig.directory / "recordings").findings == []
    await api.aclose()


async def test_the_web_is_closed_with_the_gateway(rig: Rig) -> None:
    api = await logged_in(rig)
    await rig.gateway.stop(0)
    with pytest.raises(httpx.TransportError):
        await api.get("/session")
    await api.aclose()
