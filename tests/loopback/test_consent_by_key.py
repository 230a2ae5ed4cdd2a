"""Press 1 to consent, 9 for no: what is captured of the prospect, what is stored, and all that widens nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.settings import Announcement
from gateway.consent.policy import Policy
from media.engine import CaptureMode, Side
from media.native import NativeMediaSession
from scripts.audit_recordings import audit
from scripts.phone import PhoneCall
from tests.loopback.test_announcements import CALIFORNIA, NEW_YORK, PROSPECT_HZ, announced, wav
from tests.loopback.test_pauses import go_on, info
from tests.support.rig import Recorded, Rig, start_rig


@pytest.fixture(autouse=True)
def nine_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOPARTY_RECORDING__OPT_OUT_KEY", "9")


def asking(directory: Path, seconds: float = 0.2, **options: Any) -> Announcement:
    return Announcement(file=wav(directory, seconds), modes=("agent_only",), consent_key="1", **options)


def media_of(rig: Rig) -> NativeMediaSession:
    media = next(iter(rig.gateway.calls.calls.values())).bridge.media  # type: ignore[union-attr]
    assert isinstance(media, NativeMediaSession)
    return media


async def decisions(rig: Rig, recorded: Recorded) -> list[dict[str, Any]]:
    return await rig.gateway.store.history.decisions(recorded.manifest["call_id"])


@pytest.mark.parametrize("via", ["telephone-event", "info"])
async def test_one_consents_and_is_recorded_from_then_on(tmp_path: Path, via: str) -> None:
    rig = await start_rig(tmp_path, announcements=[asking(tmp_path)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await announced(rig, call, far)
        media = media_of(rig)
        assert (media.mode, media.relay.ring_memory(Side.PROSPECT)) == (CaptureMode.AGENT_ONLY, None)
        assert media.stats().prospect.captured == 0
        await (info(far, "1") if via == "info" else pressed(far, "1"))
        await rig.until(lambda: Side.PROSPECT in media.captured)
        await go_on(call, far, packets=75)
        await rig.hang_up(call, far)
        recorded = await rig.recorded(CALIFORNIA)
        first, second = await decisions(rig, recorded)
        assert (first["mode"], first["reason"]) == ("agent_only", "prospect_two_party")
        assert (second["mode"], second["reason"], second["rule"]) == ("both", "prospect_consented", 13)
        digest = hashlib.sha256((tmp_path / "recorded.wav").read_bytes()).hexdigest()
        told = {"key": "1", "via": via, "announcement": "recorded.wav", "announcement_sha256": digest}
        assert second["answer"]["consent"] == recorded.manifest["decision"]["consent"] == told
        (widened,) = [e for e in recorded.manifest["events"] if e["event"] == "widen"]
        assert {key: widened[key] for key in told} == told
        assert (recorded.manifest["mode"], recorded.manifest["audio"]["channels"]) == ("both", 2)
        prospect = recorded.channels[Side.PROSPECT]
        assert widened["sample"] > 0.4 * recorded.rate
        assert not prospect[: widened["sample"]].any()
        after = widened["sample"] + recorded.rate // 4
        assert np.abs(prospect[after : after + recorded.rate // 2]).max() > 0.2
        assert recorded.level(Side.AGENT, 440.0) > -20
        assert recorded.manifest["outcome"] == "complete"
        assert audit(rig.directory / "recordings").findings == []
    finally:
        await rig.close()


async def pressed(call: PhoneCall, keys: str) -> None:
    call.rtp.press(keys)


async def nothing(rig: Rig, call: PhoneCall, far: PhoneCall) -> None: ...


async def another_key(rig: Rig, call: PhoneCall, far: PhoneCall) -> None:
    far.rtp.press("23*")


async def the_agents_own(rig: Rig, call: PhoneCall, far: PhoneCall) -> None:
    call.rtp.press("1")
    await info(call, "1")


async def after_a_no(rig: Rig, call: PhoneCall, far: PhoneCall) -> None:
    far.rtp.press("91")


async def after_the_policy_was_changed(rig: Rig, call: PhoneCall, far: PhoneCall) -> None:
    """Still agent_only, but by another rule; whoever changed it may not even have told the gateway yet."""
    stricter = Policy.from_mapping({"agent_side_only": True})
    await rig.gateway.store.policies.append("acme", stricter, after=0, by="test")
    far.rtp.press("1")


@pytest.mark.parametrize(
    "what", [nothing, another_key, the_agents_own, after_a_no, after_the_policy_was_changed], ids=lambda f: f.__name__
)
async def test_what_widens_nothing(
    tmp_path: Path, what: Callable[[Rig, PhoneCall, PhoneCall], Awaitable[None]]
) -> None:
    rig = await start_rig(tmp_path, announcements=[asking(tmp_path)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await announced(rig, call, far)
        await what(rig, call, far)
        await assert_not_widened(rig, call, far)
    finally:
        await rig.close()


async def assert_not_widened(rig: Rig, call: PhoneCall, far: PhoneCall) -> None:
    media = media_of(rig)
    await go_on(call, far, packets=30)
    assert media.relay.ring_memory(Side.PROSPECT) is None
    assert media.stats().prospect.captured == 0
    await rig.hang_up(call, far)
    recorded = await rig.recorded(CALIFORNIA)
    assert all(row["mode"] != "both" for row in await decisions(rig, recorded))
    assert (recorded.manifest["mode"], recorded.manifest["audio"]["channels"]) == ("agent_only", 1)
    assert recorded.level(0, PROSPECT_HZ) < -35


async def test_a_key_before_the_announcement_is_over_widens_nothing(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, announcements=[asking(tmp_path, 0.8)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await far.rtp.heard(3)
        far.rtp.press("1")
        await announced(rig, call, far)
        await assert_not_widened(rig, call, far)
    finally:
        await rig.close()


async def test_a_key_after_the_window_widens_nothing(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, announcements=[asking(tmp_path, consent_seconds=0.1)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await announced(rig, call, far)  # and 0.6 seconds more
        far.rtp.press("1")
        await assert_not_widened(rig, call, far)
    finally:
        await rig.close()


async def test_with_any_other_reason_nobody_is_asked_and_nothing_widens(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, {"agent_side_only": True}, announcements=[asking(tmp_path)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await announced(rig, call, far)
        far.rtp.press("1")
        await assert_not_widened(rig, call, far)
        recorded = await rig.recorded(CALIFORNIA)
        assert not [e for e in recorded.manifest["events"] if e["event"].startswith("announcement")]
    finally:
        await rig.close()


async def test_without_an_announcement_the_key_means_nothing(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path)
    try:
        call, far = await rig.call(CALIFORNIA)
        await go_on(call, far, packets=10)
        far.rtp.press("1")
        await assert_not_widened(rig, call, far)
    finally:
        await rig.close()


@pytest.mark.parametrize("mode", ["agent_only", "none"])
async def test_nine_narrows_at_any_time(tmp_path: Path, mode: str) -> None:
    rig = await start_rig(tmp_path, recording={"opt_out_mode": mode})
    try:
        call, far = await rig.call(NEW_YORK)
        await go_on(call, far, packets=40)
        media = media_of(rig)
        far.rtp.press("9")
        await rig.until(lambda: media.mode == mode)
        left = {Side.AGENT} if mode == "agent_only" else set()
        assert media.captured == left
        captured = media.stats().prospect.captured
        await go_on(call, far, packets=30)
        assert media.stats().prospect.captured == captured
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        first, second = await decisions(rig, recorded)
        assert (first["mode"], second["mode"], second["reason"]) == ("both", mode, "prospect_opted_out")
        assert second["answer"]["opt_out"] == {"key": "9"}
        assert audit(rig.directory / "recordings").findings == []
    finally:
        await rig.close()


async def test_who_has_consented_can_still_say_no(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, announcements=[asking(tmp_path)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await announced(rig, call, far)
        media = media_of(rig)
        far.rtp.press("1")
        await rig.until(lambda: media.mode is CaptureMode.BOTH)
        await go_on(call, far, packets=40)
        far.rtp.press("9")
        await rig.until(lambda: media.mode is CaptureMode.AGENT_ONLY)
        far.rtp.press("1")
        await go_on(call, far, packets=40)
        assert media.mode is CaptureMode.AGENT_ONLY
        await rig.hang_up(call, far)
        recorded = await rig.recorded(CALIFORNIA)
        modes = [row["mode"] for row in await decisions(rig, recorded)]
        assert modes == ["agent_only", "both", "agent_only"]
        (narrowed,) = [e for e in recorded.manifest["events"] if e["event"] == "narrow"]
        assert not recorded.channels[Side.PROSPECT][narrowed["sample"] :].any()
        assert audit(rig.directory / "recordings").findings == []
    finally:
        await rig.close()


async def test_consent_outlives_a_change_of_policy_that_does_not_speak_against_it(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, announcements=[asking(tmp_path)])
    try:
        call, far = await rig.call(CALIFORNIA)
        await announced(rig, call, far)
        media = media_of(rig)
        far.rtp.press("1")
        await rig.until(lambda: media.mode is CaptureMode.BOTH)
        policies = rig.gateway.store.policies
        await policies.append("acme", Policy.from_mapping({"inbound_enabled": True}), after=0, by="test")
        await rig.gateway.calls.review()
        assert media.mode is CaptureMode.BOTH
        await policies.append("acme", Policy.from_mapping({"agent_side_only": True}), after=1, by="test")
        await rig.gateway.calls.review()
        assert media.mode is CaptureMode.AGENT_ONLY
        await rig.hang_up(call, far)
    finally:
        await rig.close()
