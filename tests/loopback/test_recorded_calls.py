"""Whole calls with synthetic RTP through a whole gateway: what the decision allows is on the disk, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.consent.policy import Policy
from gateway.store.history import CallFilter
from gateway.store.store import Store
from media.engine import CaptureMode, Side
from scripts.audit_recordings import audit
from tests.support.rig import Rig, start_rig

AGENT_HZ, PROSPECT_HZ = 440.0, 1000.0
PACKETS = 120

NEW_YORK, CALIFORNIA, NEW_HAMPSHIRE = "+12125550123", "+14155550123", "+16035550123"
NEVER_NEW_HAMPSHIRE = {"never_record": {"enabled": True, "states": ["US-NH"]}}


def clean(rig: Rig) -> None:
    """The auditor finds nothing."""
    assert audit(rig.directory / "recordings").findings == []


def bit_exact(sent: list[bytes], received: list[bytes]) -> None:
    """What arrived is a run of what was sent: nothing changed, nothing lost in between, in order."""
    assert len(received) >= PACKETS
    start = sent.index(received[0])
    assert received == sent[start : start + len(received)]


async def talk(rig: Rig, number: str) -> None:
    """A call of ``PACKETS`` packets each way, received bit-exact at both ends."""
    call, far = await rig.call(number)
    await asyncio.gather(call.rtp.heard(PACKETS), far.rtp.heard(PACKETS))
    call.rtp.pause()
    far.rtp.pause()
    for sender, receiver in ((call, far), (far, call)):
        bit_exact([p.data for p in sender.rtp.sent], [p.data for p in receiver.rtp.received])
    await rig.hang_up(call, far)


async def test_both_legs_each_on_its_own_channel(rig: Rig) -> None:
    await talk(rig, NEW_YORK)
    recorded = await rig.recorded(NEW_YORK)
    assert recorded.manifest["decision"]["mode"] == "both"
    assert recorded.manifest["decision"]["reason"] == "one_party"
    assert (recorded.manifest["problems"], recorded.manifest["outcome"]) == ([], "complete")
    assert len(recorded.channels) == 2
    for own, other, channel in ((AGENT_HZ, PROSPECT_HZ, 0), (PROSPECT_HZ, AGENT_HZ, 1)):
        assert recorded.level(channel, own) > -20
        assert recorded.level(channel, own) - recorded.level(channel, other) >= 60
    clean(rig)


async def test_the_agent_alone_where_the_prospect_may_not_be_recorded(rig: Rig) -> None:
    call, far = await rig.call(CALIFORNIA)
    live = next(iter(rig.gateway.calls.calls.values()))
    session = live.bridge.media  # type: ignore[union-attr]
    await asyncio.gather(call.rtp.heard(PACKETS), far.rtp.heard(PACKETS))
    stats = session.stats()
    assert session.relay.ring_memory(Side.PROSPECT) is None, "a leg that may not be captured has no ring"
    assert stats.prospect.received >= PACKETS and stats.prospect.captured == 0
    assert stats.agent.captured > 0
    assert rig.gateway.media.relay.rings_made == 1
    ring = session.relay.ring_memory(Side.AGENT)
    for packet in far.rtp.sent:
        assert packet.data[12:] not in ring, "a byte of the prospect's audio was in a ring"
    await rig.hang_up(call, far)
    recorded = await rig.recorded(CALIFORNIA)
    assert recorded.manifest["decision"]["reason"] == "prospect_two_party"
    assert len(recorded.channels) == 1
    assert recorded.level(0, AGENT_HZ) > -20
    assert recorded.level(0, AGENT_HZ) - recorded.level(0, PROSPECT_HZ) >= 80
    clean(rig)


@pytest.mark.parametrize("rig", [NEVER_NEW_HAMPSHIRE], indirect=True)
async def test_nothing_where_nothing_may_be_recorded(rig: Rig) -> None:
    await talk(rig, NEW_HAMPSHIRE)
    recorded = await rig.recorded(NEW_HAMPSHIRE)
    assert recorded.audio is None
    assert recorded.manifest["decision"]["reason"] == "never_record_state"
    assert recorded.manifest["outcome"] == "blocked"
    assert rig.gateway.media.relay.rings_made == 0
    assert list((rig.directory / "recordings").rglob("*.wav*")) == []
    clean(rig)


async def test_the_store_has_call_decision_and_recording(rig: Rig) -> None:
    call, far = await rig.call(NEW_YORK)
    await far.rtp.heard(20)
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    await rig.until(lambda: not rig.gateway.calls.calls)
    async with asyncio.timeout(10):
        while not (page := await rig.gateway.store.history.recordings(CallFilter())).rows:
            await asyncio.sleep(0.02)
    assert len(page.rows) == 1
    assert recorded.audio is not None
    digest = hashlib.sha256(recorded.audio.read_bytes()).hexdigest()
    assert recorded.manifest["audio"]["sha256"] == digest


async def test_hold_is_silence_and_the_channels_stay_aligned(rig: Rig) -> None:
    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(60), far.rtp.heard(60))
    await call.hold()
    heard = len(call.rtp.received)
    await call.resume()
    await asyncio.gather(call.rtp.heard(heard + 60), far.rtp.heard(100))
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    agent, prospect = recorded.channels
    assert len(agent) == len(prospect)
    events = [event["event"] for event in recorded.manifest["events"]]
    assert events.count("hold") >= 1 and events.count("resume") >= 1
    clean(rig)


async def test_an_injector_reaches_nobody_and_no_file(rig: Rig) -> None:
    """A third party that sprays RTP at the gateway's ports after both legs have latched is dropped."""
    from scripts.phone import RtpStream

    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(30), far.rtp.heard(30))
    injector = RtpStream("127.0.0.1", 2500.0)
    injector.far_end = call.rtp.far_end
    injector.play()
    before = len(far.rtp.received)
    await far.rtp.heard(before + 80)
    injector.close()
    payloads = {packet.data for packet in injector.sent}
    assert not payloads & {packet.data for packet in far.rtp.received}
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    assert recorded.level(0, 2500.0) < -60 and recorded.level(1, 2500.0) < -60


async def test_a_codec_that_cannot_be_decoded_is_relayed_and_named(rig: Rig) -> None:
    rig.agent.payload_type = rig.carrier.payload_type = 3
    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(30), far.rtp.heard(30))
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    assert recorded.manifest["outcome"] == "degraded"
    assert any("GSM" in problem for problem in recorded.manifest["problems"])


async def test_telephone_events_are_relayed_and_never_recorded(rig: Rig) -> None:
    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(20), far.rtp.heard(20))
    call.rtp.pause()
    for index in range(10):
        call.rtp.send(bytes((5, 10, 0, 160)), payload_type=101, marker=index == 0)
    await rig.until(lambda: sum(p.data[1] & 0x7F == 101 for p in far.rtp.received) == 10)
    live = next(iter(rig.gateway.calls.calls.values()))
    stats = live.bridge.media.stats()  # type: ignore[union-attr]
    assert stats.agent.received >= stats.agent.captured + 10
    await rig.hang_up(call, far)
    await rig.recorded(NEW_YORK)


async def test_an_inbound_call_is_recorded_when_the_policy_says_so(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, {"inbound_enabled": True})
    softphone = await type(rig.agent).open(tone_hz=AGENT_HZ, username="alice", password="secret")
    rig.phones.append(softphone)
    try:
        assert (await softphone.register(f"sip:{rig.address}")).status == 200
        rig.carrier.username = NEW_YORK
        call = await rig.carrier.call(rig.uri("+12125550199"))
        far = await softphone.incoming.get()
        await asyncio.gather(call.rtp.heard(PACKETS), far.rtp.heard(PACKETS))
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        assert recorded.manifest["call"]["direction"] == "inbound"
        assert recorded.level(0, AGENT_HZ) > -20, "the agent is on channel 0 whoever called"
        assert recorded.level(1, PROSPECT_HZ) > -20
        clean(rig)
    finally:
        await rig.close()


async def test_draining_closes_the_recordings(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path)
    _call, far = await rig.call(NEW_YORK)
    await far.rtp.heard(50)
    await rig.gateway.stop(0.1)
    recorded = await rig.recorded(NEW_YORK)
    assert recorded.manifest["termination"]["kind"] == "shutdown"
    assert recorded.audio is not None
    assert list((tmp_path / "recordings").rglob("*.part*")) == []
    clean(rig)
    await rig.close()


async def tighten(rig: Rig, settings: dict[str, Any]) -> None:
    """Change the policy as another process does: through the database."""
    other = await Store.open(rig.gateway.settings.store.url)
    current = await other.policies.current("acme")
    await other.policies.append("acme", Policy.from_mapping(settings), after=current.version, by="test")
    await other.close()


async def test_a_stricter_policy_reaches_the_call_in_progress(rig: Rig) -> None:
    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(60), far.rtp.heard(60))
    live = next(iter(rig.gateway.calls.calls.values()))
    assert live.bridge is not None
    before = time.monotonic()
    await tighten(rig, {"agent_side_only": True})
    await rig.until(lambda: live.bridge.media.mode is CaptureMode.AGENT_ONLY)  # type: ignore[union-attr]
    assert time.monotonic() - before < 1.0
    await call.rtp.heard(len(call.rtp.received) + 60)
    await tighten(rig, {})  # looser again: nothing widens
    await tighten(rig, {"recording_enabled": False})
    await rig.until(lambda: live.bridge.media.mode is CaptureMode.NONE)  # type: ignore[union-attr]
    await call.rtp.heard(len(call.rtp.received) + 60)
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    narrowed = [event for event in recorded.manifest["events"] if event["event"] == "narrow"]
    assert [(event["mode"], event["reason"]) for event in narrowed] == [
        ("agent_only", "policy version 1: agent_side_only"),
        ("none", "policy version 3: recording_disabled"),
    ]
    agent, prospect = recorded.channels
    assert abs(prospect[narrowed[0]["sample"] :]).max() == 0.0
    assert len(agent) == narrowed[1]["sample"]
    assert abs(prospect[: narrowed[0]["sample"] - 800]).max() > 0.1
    stored = await rig.gateway.store.history.decisions(recorded.manifest["call_id"])
    assert [decision["mode"] for decision in stored] == ["both", "agent_only", "none"]
    assert recorded.manifest["decision"]["mode"] == "both"
    clean(rig)


async def test_narrowing_stops_capture_at_once(rig: Rig) -> None:
    call, far = await rig.call(NEW_YORK)
    await asyncio.gather(call.rtp.heard(60), far.rtp.heard(60))
    live = next(iter(rig.gateway.calls.calls.values()))
    live.bridge.media.narrow(CaptureMode.AGENT_ONLY, "policy tightened")  # type: ignore[union-attr]
    heard = len(call.rtp.received)
    await call.rtp.heard(heard + 60)
    await rig.hang_up(call, far)
    recorded = await rig.recorded(NEW_YORK)
    prospect = recorded.channels[1]
    assert abs(prospect[-4000:]).max() == 0.0
    clean(rig)
