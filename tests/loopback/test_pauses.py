"""A live call whose capture is paused, over HTTP and by the agent's keys, in every file format."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from media.engine import Side
from media.formats import FileFormat
from scripts.audit_recordings import audit
from scripts.phone import PhoneCall
from tests.support.rig import Rig, start_rig
from tests.support.web_client import HASH, PASSWORD

NEW_YORK = "+12125550123"
AGENT_HZ, PROSPECT_HZ = 440.0, 1000.0


async def logged_in(rig: Rig) -> httpx.AsyncClient:
    assert rig.gateway.web_server is not None
    client = httpx.AsyncClient(base_url=f"{rig.gateway.web_server.url}/api/v1", timeout=20)
    answer = await client.post("/session", json={"username": "boss", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf_token"]
    return client


async def go_on(*calls: PhoneCall, packets: int = 60) -> None:
    await asyncio.gather(*(call.rtp.heard(len(call.rtp.received) + packets) for call in calls))


async def info(call: PhoneCall, key: str) -> None:
    body = f"Signal={key}\r\nDuration=100\r\n".encode()
    assert call.session is not None
    session = call.session
    call.phone.act(lambda now: session.send_info("application/dtmf-relay", body, now))
    assert (await call.exchanges.get()).status == 200


@pytest.mark.parametrize("file_format", FileFormat)
async def test_capture_is_paused_and_resumed(tmp_path: Path, file_format: FileFormat) -> None:
    rig = await start_rig(
        tmp_path, web={"listen": "127.0.0.1:0", "page": False}, recording={"format": str(file_format)}
    )
    try:
        await rig.gateway.store.accounts.add_user("boss", "acme", role="admin", password_hash=HASH)
        client = await logged_in(rig)
        call, far = await rig.call(NEW_YORK)
        await go_on(call, far)
        (live,) = (await client.get("/calls/live")).json()
        assert (live["agent_captured"], live["prospect_captured"], live["paused"]) == (True, True, False)
        paused = await client.post(f"/calls/{live['call_id']}/pause")
        assert (paused.status_code, paused.json()["paused"]) == (200, True)
        media = next(iter(rig.gateway.calls.calls.values())).bridge.media  # type: ignore[union-attr]
        assert [media.relay.ring_memory(side) for side in Side] == [None, None]  # type: ignore[attr-defined]
        captured = media.stats().prospect.captured
        await go_on(call, far)
        assert media.stats().prospect.captured == captured
        assert (await client.post(f"/calls/{live['call_id']}/resume")).json()["prospect_captured"] is True
        await go_on(call, far)
        for key in "*7":
            await info(call, key)
        (live,) = (await client.get("/calls/live")).json()
        assert (live["agent_captured"], live["prospect_captured"], live["paused"]) == (False, False, True)
        await go_on(call, far)
        for key in "*8":
            await info(call, key)
        await go_on(call, far)
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        await client.aclose()
        assert recorded.manifest["audio"]["format"] == file_format.label
        events = [(e["event"], e["via"], e["by"]) for e in recorded.manifest["events"] if "pause" in e["event"]]
        assert events == [
            ("pause", "api", "boss"), ("pause_end", "api", "boss"), ("pause", "info", "agent"),
            ("pause_end", "info", "agent"),
        ]  # fmt: skip
        assert len(recorded.manifest["pauses"]) == 2
        margin = 800 if file_format is FileFormat.OGG else 0
        for side, hertz in ((Side.AGENT, AGENT_HZ), (Side.PROSPECT, PROSPECT_HZ)):
            samples = recorded.channels[side]
            for begin, end in recorded.manifest["pauses"]:
                assert end - begin > 7000
                assert np.abs(samples[begin + margin : end - margin]).max() <= (0.002 if margin else 0)
                after = samples[end + 800 : end + 4800]
                assert np.abs(after).max() > 0.2, (side, hertz)
        assert recorded.manifest["legs"]["prospect"]["lost"] == 0
        assert (recorded.manifest["problems"], recorded.manifest["outcome"]) == ([], "complete")
        assert audit(rig.directory / "recordings").findings == []
    finally:
        await rig.close()


async def test_an_agents_telephone_events_pause_and_resume(tmp_path: Path) -> None:
    """The far end hears the keys as events; the prospect's own keys mean nothing, and no digit is kept anywhere."""
    rig = await start_rig(tmp_path)
    try:
        call, far = await rig.call(NEW_YORK)
        await go_on(call, far, packets=10)
        media = next(iter(rig.gateway.calls.calls.values())).bridge.media  # type: ignore[union-attr]
        far.rtp.press("*7")
        await go_on(call, far, packets=20)
        assert not media.paused
        call.rtp.press("*7")
        await rig.until(lambda: media.paused)
        await go_on(call, far)
        call.rtp.press("*8")
        await rig.until(lambda: not media.paused)
        await go_on(call, far)
        heard = {(p.data[12], p.data[4:8]) for p in far.rtp.received if p.data[1] & 0x7F == 101}
        assert sorted(code for code, _ in heard) == [7, 8, 10, 10]
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        events = [(e["event"], e["via"], e["by"]) for e in recorded.manifest["events"] if "pause" in e["event"]]
        assert events == [("pause", "telephone-event", "agent"), ("pause_end", "telephone-event", "agent")]
        ((begin, end),) = recorded.manifest["pauses"]
        for side in Side:
            assert not recorded.channels[side][begin:end].any()
            assert np.abs(recorded.channels[side][end + 800 : end + 4800]).max() > 0.2
        assert recorded.manifest["outcome"] == "complete"
    finally:
        await rig.close()
