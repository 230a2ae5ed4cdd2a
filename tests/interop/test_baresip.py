"""baresip as the agent's softphone: it registers with a password, calls and is called, and is recorded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.sip.sdp import Direction
from scripts.audit_recordings import audit
from tests.support.baresip import Baresip, start_baresip
from tests.support.rig import Rig, start_rig

pytestmark = pytest.mark.interop
AGENT_HZ, PROSPECT_HZ = 440.0, 1000.0
NEW_YORK, CALIFORNIA = "+12125550123", "+14155550123"
HEARD = 100


def tone(path: Path, hertz: float) -> Path:
    """30 s of a tone as 16-bit PCM."""
    samples = [0.3 * math.sin(2 * math.pi * hertz * index / 8000) for index in range(8000 * 30)]
    soundfile.write(path, np.array(samples), 8000, subtype="PCM_16")
    return path


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = await start_rig(tmp_path, {"inbound_enabled": True}, trusted=False)
    yield made
    await made.close()


@pytest.fixture
async def baresip(rig: Rig, tmp_path: Path) -> AsyncIterator[Baresip]:
    account = f"<sip:alice@{rig.address};transport=udp>;auth_user=alice;auth_pass=secret;answermode=auto;regint=120"
    made = await start_baresip(tmp_path / "baresip", account, source=f"aufile,{tone(tmp_path / 'agent.wav', AGENT_HZ)}")
    await rig.until(lambda: "[1 binding]" in made.output())
    yield made
    await made.close()


async def test_it_calls_and_both_sides_are_recorded(rig: Rig, baresip: Baresip) -> None:
    await baresip.tell("dial", rig.uri(NEW_YORK))
    await baresip.wait_for("CALL_ESTABLISHED")
    far = await asyncio.wait_for(rig.carrier.incoming.get(), 10)
    await far.rtp.heard(HEARD)
    await baresip.tell("hangup")
    await asyncio.wait_for(far.ended.wait(), 10)
    recorded = await rig.recorded(NEW_YORK)
    assert recorded.manifest["decision"]["mode"] == "both"
    assert recorded.manifest["call"]["agent"]["username"] == "alice"
    for channel, own, other in ((0, AGENT_HZ, PROSPECT_HZ), (1, PROSPECT_HZ, AGENT_HZ)):
        assert recorded.level(channel, own) > -20
        assert recorded.level(channel, own) - recorded.level(channel, other) >= 60
    assert audit(rig.directory / "recordings").findings == []


async def test_the_prospect_is_nowhere_where_it_may_not_be(rig: Rig, baresip: Baresip) -> None:
    await baresip.tell("dial", rig.uri(CALIFORNIA))
    await baresip.wait_for("CALL_ESTABLISHED")
    far = await asyncio.wait_for(rig.carrier.incoming.get(), 10)
    await far.rtp.heard(HEARD)
    far.hang_up()
    await baresip.wait_for("CALL_CLOSED")
    recorded = await rig.recorded(CALIFORNIA)
    assert len(recorded.channels) == 1
    assert recorded.level(0, AGENT_HZ) - recorded.level(0, PROSPECT_HZ) >= 60
    assert recorded.manifest["legs"]["prospect"]["captured"] == 0


async def test_hold_and_resume(rig: Rig, baresip: Baresip) -> None:
    await baresip.tell("dial", rig.uri(NEW_YORK))
    await baresip.wait_for("CALL_ESTABLISHED")
    far = await asyncio.wait_for(rig.carrier.incoming.get(), 10)
    await far.rtp.heard(HEARD)
    await baresip.tell("hold")
    await rig.until(lambda: far.remote_direction is not Direction.SENDRECV)
    await baresip.tell("resume")
    await rig.until(lambda: far.remote_direction is Direction.SENDRECV)
    before = len(far.rtp.received)
    await far.rtp.heard(before + HEARD)
    await baresip.tell("hangup")
    await asyncio.wait_for(far.ended.wait(), 10)
    recorded = await rig.recorded(NEW_YORK)
    assert [e["event"] for e in recorded.manifest["events"] if e["event"] in ("hold", "resume")][:1] == ["hold"]
    assert (recorded.manifest["problems"], recorded.manifest["outcome"]) == ([], "complete")


async def test_it_is_called_through_its_did(rig: Rig, baresip: Baresip) -> None:
    rig.carrier.username = "+12125550123"
    call = await rig.carrier.call(rig.uri("+12125550199"))
    await call.rtp.heard(HEARD)
    call.hang_up()
    await baresip.wait_for("CALL_CLOSED")
    recorded = await rig.recorded("+12125550123")
    assert recorded.manifest["call"]["direction"] == "inbound"
    assert recorded.manifest["decision"]["mode"] == "both"
    assert recorded.level(0, AGENT_HZ) - recorded.level(0, PROSPECT_HZ) >= 60
    assert recorded.level(1, PROSPECT_HZ) - recorded.level(1, AGENT_HZ) >= 60
