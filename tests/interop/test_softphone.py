"""The PJSIP softphone, as ``twoparty call`` runs it, in recorded calls."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scripts.audit_recordings import audit
from tests.support.rig import Rig, start_rig

pytestmark = pytest.mark.interop
PROSPECT_HZ = 1000.0
NEW_YORK, CALIFORNIA, NEW_HAMPSHIRE = "+12125550123", "+14155550123", "+16035550123"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    policy = {"inbound_enabled": True, "never_record": {"enabled": True, "states": ["US-NH"]}}
    made = await start_rig(tmp_path, policy, trusted=False)
    yield made
    await made.close()


async def softphone(rig: Rig, *arguments: str, password: str = "secret") -> asyncio.subprocess.Process:
    """``twoparty call`` as a shell runs it."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "call", "--gateway", rig.address, "--user", "alice",
        "--password", password, *arguments,
        env={**os.environ, "COLUMNS": "200"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_it_registers_calls_sends_digits_holds_and_hangs_up(rig: Rig) -> None:
    code, out, err = await ended(
        await softphone(rig, NEW_YORK, "--register", "--dtmf", "42", "--hold", "0.5", "--seconds", "1.5")
    )
    assert code == 0, err
    assert out.splitlines()[0].split() == ["registration", "OK", "200"]
    for state in ("CALLING", "CONFIRMED", "DISCONNECTED"):
        assert f"state        {state}" in out
    far = rig.carrier.incoming.get_nowait()
    events = {p.data[1] & 0x7F for p in far.rtp.received} - {0, 8}
    assert events, "no telephone-event reached the carrier"
    recorded = await rig.recorded(NEW_YORK)
    assert (recorded.manifest["problems"], recorded.manifest["outcome"]) == ([], "complete")
    assert recorded.manifest["termination"]["ended_by"] == "agent"
    held = [e["event"] for e in recorded.manifest["events"] if e["event"] in ("hold", "resume")]
    assert held == ["hold", "resume"]
    assert len(recorded.channels) == 2
    assert recorded.level(1, PROSPECT_HZ) > -40
    assert recorded.level(0, PROSPECT_HZ) > -40, "its echo is the agent's audio"
    assert audit(rig.directory / "recordings").findings == []


async def test_the_echo_of_the_prospect_is_the_agents_leg_and_the_prospects_own_is_not_there(rig: Rig) -> None:
    code, _, err = await ended(await softphone(rig, CALIFORNIA, "--seconds", "1.5"))
    assert code == 0, err
    recorded = await rig.recorded(CALIFORNIA)
    assert recorded.manifest["decision"]["mode"] == "agent_only"
    assert len(recorded.channels) == 1
    assert recorded.manifest["legs"]["prospect"]["captured"] == 0


async def test_nothing_is_recorded_where_nothing_may_be(rig: Rig) -> None:
    code, _, err = await ended(await softphone(rig, NEW_HAMPSHIRE, "--seconds", "1"))
    assert code == 0, err
    recorded = await rig.recorded(NEW_HAMPSHIRE)
    assert recorded.audio is None
    assert recorded.manifest["outcome"] == "blocked"


async def test_it_is_called_through_its_did(rig: Rig) -> None:
    process = await softphone(rig, "--seconds", "30", "--wait", "20")
    await rig.until(lambda: bool(rig.gateway.calls.registrar.contacts("alice", time.monotonic())))
    rig.carrier.username = "+12125550123"
    call = await rig.carrier.call(rig.uri("+12125550199"))
    await call.rtp.heard(60)
    call.hang_up()
    code, out, err = await ended(process)
    assert code == 0, err
    assert "incoming" in out
    assert (await rig.recorded("+12125550123")).manifest["call"]["direction"] == "inbound"


async def test_a_wrong_password_is_told_with_its_status(rig: Rig) -> None:
    code, _, err = await ended(await softphone(rig, NEW_YORK, password="wrong"))
    assert code == 1
    assert "softphone: call failed: 40" in err


async def test_a_gateway_that_is_not_there_is_told(rig: Rig) -> None:
    code, _, err = await ended(await softphone(rig, NEW_YORK, "--gateway", "127.0.0.1:9", "--wait", "1"))
    assert code == 1
    assert err.startswith("softphone: ")
