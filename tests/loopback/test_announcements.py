"""Whole calls with announcements and beeps: who hears what and when, one row of packets, and what the manifest says."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from config.settings import Announcement
from gateway.app import Gateway, StartError
from media.codecs import ULAW
from media.engine import Side
from scripts.audit_recordings import audit
from scripts.demo import tone_level
from scripts.phone import Packet, PhoneCall
from tests.loopback.test_pauses import go_on
from tests.support.rig import Rig, settings_for, start_rig

NEW_YORK = "+12125550123"
CALIFORNIA = "+14155550123"
AGENT_HZ, PROSPECT_HZ, ANNOUNCED_HZ, BEEP_HZ = 440.0, 1000.0, 700.0, 1400.0
PACKETS = 40


def wav(directory: Path, seconds: float = PACKETS / 50) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "recorded.wav"
    tone = 0.3 * np.sin(2 * np.pi * ANNOUNCED_HZ * np.arange(int(16000 * seconds)) / 16000)
    soundfile.write(path, tone, 16000, subtype="PCM_16")
    return path


def samples(packets: list[Packet]) -> np.ndarray:
    return np.concatenate([ULAW[np.frombuffer(packet.data[12:], dtype=np.uint8)] for packet in packets]) / 32768


def level(packets: list[Packet], hertz: float) -> float:
    """dBFS."""
    return tone_level(samples(packets), hertz, 8000)


def assert_one_row(packets: list[Packet]) -> None:
    """One SSRC, every number once and in order, time that passes on by what a packet holds or what went by."""
    rows = [struct.unpack("!HII", packet.data[2:12]) for packet in packets]
    assert len({ssrc for *_, ssrc in rows}) == 1
    for before, after in pairwise(rows):
        assert (after[0] - before[0]) % 2**16 == 1
        assert 160 <= (after[1] - before[1]) % 2**32 < 8000 * 10


async def announced(rig: Rig, call: PhoneCall, far: PhoneCall) -> None:
    """Wait until the two ends hear each other."""
    control = next(iter(rig.gateway.calls.calls.values()))
    await rig.until(lambda: control.announcing is not None and not control.announcing.active)
    await go_on(call, far, packets=30)


@pytest.mark.parametrize("to", ["prospect", "agent", "both"])
async def test_an_announcement_before_the_ends_hear_each_other(tmp_path: Path, to: str) -> None:
    path = wav(tmp_path)
    rig = await start_rig(tmp_path, announcements=[Announcement(file=path, to=to)])  # type: ignore[arg-type]
    try:
        call, far = await rig.call(NEW_YORK)
        await announced(rig, call, far)
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        for end, name, other_hz in ((call, "agent", PROSPECT_HZ), (far, "prospect", AGENT_HZ)):
            heard = end.rtp.received
            played = PACKETS if to in (name, "both") else 0
            if played:
                assert level(heard[2 : PACKETS - 2], ANNOUNCED_HZ) == pytest.approx(20 * np.log10(0.3), abs=1)
                assert level(heard[2 : PACKETS - 2], other_hz) < -35
            assert level(heard[played : played + 25], other_hz) > -20
            assert level(heard[played : played + 25], ANNOUNCED_HZ) < -35
            assert_one_row(heard)
        legs = [name for name in ("agent", "prospect") if to in (name, "both")]
        events = [e for e in recorded.manifest["events"] if e["event"].startswith("announcement")]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for leg in legs:
            begin, end_ = (e for e in events if e["leg"] == leg)
            assert (begin["event"], end_["event"]) == ("announcement", "announcement_end")
            assert (begin["file"], begin["sha256"], end_["sha256"]) == ("recorded.wav", digest, digest)
            assert (begin["seconds"], end_["played_seconds"], end_["complete"]) == (0.8, 0.8, True)
            assert begin["sample"] + 0.7 * recorded.rate < end_["sample"]
        assert len(events) == 2 * len(legs)
        # what is played is said by nobody on the call: it is not in the file
        for side in Side:
            assert recorded.level(side, ANNOUNCED_HZ) < -35
        assert recorded.manifest["outcome"] == "complete"
        assert audit(rig.directory / "recordings").findings == []
    finally:
        await rig.close()


@pytest.mark.parametrize(
    ("number", "options", "played"),
    [
        (NEW_YORK, {"where": "two_party", "modes": ("both", "agent_only")}, False),
        (CALIFORNIA, {"where": "two_party", "modes": ("both", "agent_only")}, True),
        (CALIFORNIA, {"modes": ("both",)}, False),
        (CALIFORNIA, {"modes": ("agent_only",)}, True),
        (NEW_YORK, {"organization": "other"}, False),
        (NEW_YORK, {"organization": "acme"}, True),
    ],
)
async def test_in_which_calls_it_is_played(
    tmp_path: Path, number: str, options: dict[str, object], played: bool
) -> None:
    rig = await start_rig(tmp_path, announcements=[Announcement(file=wav(tmp_path, 0.2), **options)])  # type: ignore[arg-type]
    try:
        call, far = await rig.call(number)
        await announced(rig, call, far)
        await rig.hang_up(call, far)
        recorded = await rig.recorded(number)
        events = [e["event"] for e in recorded.manifest["events"] if e["event"].startswith("announcement")]
        assert events == (["announcement", "announcement_end"] if played else [])
    finally:
        await rig.close()


async def test_hanging_up_in_the_middle_of_an_announcement(tmp_path: Path) -> None:
    rig = await start_rig(tmp_path, announcements=[Announcement(file=wav(tmp_path, 60.0))])
    try:
        call, far = await rig.call(NEW_YORK)
        await far.rtp.heard(5)
        assert call.rtp.received == []
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        assert "announcement" in [e["event"] for e in recorded.manifest["events"]]
        assert recorded.manifest["outcome"] == "complete"
    finally:
        await rig.close()


async def test_what_can_not_be_announced_is_not_recorded_of_the_prospect(tmp_path: Path) -> None:
    """Both ends speak GSM alone, which nothing here encodes: the call goes on, of the prospect nothing is captured."""
    rig = await start_rig(tmp_path, announcements=[Announcement(file=wav(tmp_path))])
    try:
        rig.agent.payload_type = rig.carrier.payload_type = 3
        call, far = await rig.call(NEW_YORK)
        await go_on(call, far)
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        events = [e["event"] for e in recorded.manifest["events"]]
        assert events.index("announcement_failed") < events.index("narrow")
        assert recorded.manifest["legs"]["prospect"]["captured"] <= 5
        assert recorded.manifest["legs"]["agent"]["captured"] > 20
    finally:
        await rig.close()


async def test_the_recording_beep(tmp_path: Path) -> None:
    settings = {"beep_to": "agent", "beep_seconds": 1.0, "beep_milliseconds": 200.0}
    rig = await start_rig(tmp_path, recording=settings)
    try:
        call, far = await rig.call(NEW_YORK)
        await call.rtp.heard(130)
        await rig.hang_up(call, far)
        recorded = await rig.recorded(NEW_YORK)
        beeps = [level([packet], BEEP_HZ) > -30 for packet in call.rtp.received]
        assert 20 <= sum(beeps) <= 40
        assert [sum(beeps[i : i + 10]) for i in range(len(beeps))].count(10) >= 2
        assert_one_row(call.rtp.received)
        assert max(level([packet], BEEP_HZ) for packet in far.rtp.received) < -30
        for side in Side:
            assert recorded.level(side, BEEP_HZ) < -35
        (beep,) = [e for e in recorded.manifest["events"] if e["event"] == "beep"]
        assert (beep["legs"], beep["every_seconds"]) == (["agent"], 1.0)
    finally:
        await rig.close()


async def test_a_file_that_can_not_be_played_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"gone\.wav"):
        await Gateway.start(settings_for(tmp_path, [], announcements=[Announcement(file=tmp_path / "gone.wav")]))
