"""The recorder: files that grow, manifests that tell, disks that fail."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from media.codecs import ULAW
from media.engine import CaptureMode, Outcome, Side
from media.recovery import recover
from media.wav import WavWriter
from scripts.audit_recordings import audit
from tests.support.recordings import SECOND, Hand, Take, quiet_recorder, record
from tests.support.rtp_stream import RATE, Captured, sound, stream

DAY = Path("acme/2026/11/24")


def manifest_of(path: Path | None) -> dict[str, Any]:
    assert path is not None
    return dict(json.loads(path.read_text()))


def test_a_stereo_file_has_the_agent_left_and_the_prospect_right(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=3)
    result = take.finish()
    assert result.path == tmp_path / DAY / "call-1.wav"
    samples, rate = soundfile.read(result.path, dtype="int16")
    assert rate == RATE
    assert np.array_equal(samples[:, 0], ULAW[take.audio[Side.AGENT]])
    assert np.array_equal(samples[:, 1], ULAW[take.audio[Side.PROSPECT]])
    assert (result.outcome, result.samples, result.channels) == (Outcome.COMPLETE, 3 * RATE, 2)
    assert result.sha256 == hashlib.sha256(result.path.read_bytes()).hexdigest()
    assert sorted(p.name for p in (tmp_path / DAY).iterdir()) == ["call-1.json", "call-1.wav"]
    assert audit(tmp_path).findings == []


def test_agent_only_is_mono_and_holds_the_agent_alone(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, CaptureMode.AGENT_ONLY, seconds=2)
    result = take.finish()
    samples, _ = soundfile.read(result.path, dtype="int16")
    assert np.array_equal(samples, ULAW[take.audio[Side.AGENT]])
    assert audit(tmp_path).findings == []


def test_none_leaves_a_manifest_and_no_audio(tmp_path: Path) -> None:
    result = record(tmp_path, CaptureMode.NONE)
    assert (result.outcome, result.path) == (Outcome.BLOCKED, None)
    assert [p.name for p in (tmp_path / DAY).iterdir()] == ["call-1.json"]
    assert audit(tmp_path).findings == []


def test_the_manifest_tells_the_call_and_each_leg(tmp_path: Path) -> None:
    hand = Hand()
    audio = sound(3 * RATE)
    agent = [p for i, p in enumerate(stream(audio)) if i not in (20, 21)]
    take = Take(quiet_recorder(tmp_path, hand), hand, packets={Side.AGENT: agent, Side.PROSPECT: stream(audio)[:50]})
    take.run(1)
    take.recording.mark("hold", hand.ns, {"leg": "agent"})
    manifest = manifest_of(take.finish().manifest_path)
    assert manifest["started"] == "2026-11-24T12:00:00.000Z"
    assert manifest["ended"] == "2026-11-24T12:00:03.000Z"
    assert manifest["decision"]["mode"] == "both"
    assert manifest["events"] == [{"event": "hold", "sample": 8000, "leg": "agent"}]
    agent_leg, prospect = manifest["legs"]["agent"], manifest["legs"]["prospect"]
    assert (agent_leg["received"], agent_leg["placed"], agent_leg["lost"]) == (148, 148, 2)
    assert agent_leg["gaps"] == [[3200, 3520]]
    assert prospect["gaps"] == [[8000, 24000]]
    assert manifest["audio"]["channel_legs"] == ["agent", "prospect"]
    assert manifest["chain"] == {"index": 1, "previous": "0" * 64}


def test_digits_are_no_loss(tmp_path: Path) -> None:
    """telephone-event takes sequence numbers, and is never captured (RFC 4733)."""
    hand = Hand()
    packets = stream(sound(2 * RATE))
    spoken = packets[:40] + packets[50:]
    take = Take(quiet_recorder(tmp_path, hand), hand, CaptureMode.AGENT_ONLY, seconds=2, packets={Side.AGENT: spoken})
    given = take.source.stats

    def with_digits() -> Any:
        stats = given()
        from dataclasses import replace

        return replace(stats, agent=replace(stats.agent, received=stats.agent.received + 10))

    take.run(0.5)
    take.source.stats = with_digits  # type: ignore[method-assign]
    assert manifest_of(take.finish().manifest_path)["legs"]["agent"]["lost"] == 0


def test_it_grows_in_steps_and_is_readable_after_each(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=4)
    part = tmp_path / DAY / "call-1.wav.part"
    for second in (1, 2, 3):
        take.run(second)
        samples, rate = soundfile.read(part, dtype="int16")
        assert rate == RATE
        assert second * RATE - RATE <= len(samples) <= second * RATE
        assert np.array_equal(samples[:, 0], ULAW[take.audio[Side.AGENT]][: len(samples)])


def test_narrowing_to_the_agent_is_silence_on_the_other_channel_from_that_sample_on(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=4)
    take.run(2)
    take.recording.narrow(CaptureMode.AGENT_ONLY, "policy", hand.ns, {Side.PROSPECT: take.source.drain(Side.PROSPECT)})
    result = take.finish()
    samples, _ = soundfile.read(result.path, dtype="int16")
    assert np.array_equal(samples[:, 0], ULAW[take.audio[Side.AGENT]])
    assert not samples[2 * RATE :, 1].any()
    assert samples[: 2 * RATE, 1].any()
    assert audit(tmp_path).findings == []


def test_narrowing_to_nothing_ends_the_file_there(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=4)
    take.run(1.5)
    take.recording.narrow(CaptureMode.NONE, "switched off", hand.ns, {})
    result = take.finish()
    assert result.samples == 12000
    assert manifest_of(result.manifest_path)["events"][0]["event"] == "narrow"
    assert audit(tmp_path).findings == []


class Failing(WavWriter):
    """A file on a disk that fails from one number of frames to another."""

    def __init__(self, path: Path, channels: int, rate: int, code: int, begin: int, end: int) -> None:
        self._fails = code, begin, end
        super().__init__(path, channels, rate)

    def _write(self, data: bytes | memoryview, offset: int) -> None:
        code, begin, end = self._fails
        if begin <= self.frames < end:
            raise OSError(code, os.strerror(code))
        super()._write(data, offset)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_for_a_while_leaves_a_hole_at_its_place(tmp_path: Path, code: int) -> None:
    hand = Hand()
    recorder = quiet_recorder(tmp_path, hand, open_file=lambda p, c, r: Failing(p, c, r, code, 8000, 16000))
    take = Take(recorder, hand, seconds=4)
    result = take.finish()
    assert result.outcome is Outcome.DEGRADED
    assert os.strerror(code) in result.problems[0]
    samples, _ = soundfile.read(result.path, dtype="int16")
    wanted = ULAW[take.audio[Side.AGENT]]
    assert len(samples) == 4 * RATE
    hole = slice(7200, 15200)
    assert np.array_equal(samples[hole.stop :, 0], wanted[hole.stop :])
    assert np.array_equal(samples[: hole.start, 0], wanted[: hole.start])
    assert not samples[hole].any()
    assert [f.kind for f in audit(tmp_path).findings] == []


def test_a_file_that_cannot_be_opened_at_first_is_aligned_when_it_can(tmp_path: Path) -> None:
    hand = Hand()
    closed = {"yes": True}

    def open_file(path: Path, channels: int, rate: int) -> WavWriter:
        if closed["yes"]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return WavWriter(path, channels, rate)

    take = Take(quiet_recorder(tmp_path, hand, open_file=open_file), hand, seconds=4)
    take.run(2)
    closed["yes"] = False
    result = take.finish()
    samples, _ = soundfile.read(result.path, dtype="int16")
    assert len(samples) == 4 * RATE
    assert np.array_equal(samples[2 * RATE :, 0], ULAW[take.audio[Side.AGENT]][2 * RATE :])
    assert not samples[:8000].any()
    assert result.outcome is Outcome.DEGRADED


def test_where_nothing_can_be_written_the_log_says_so_and_nothing_raises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acme").write_text("a file where the directory should be")
    result = record(tmp_path)
    assert (result.outcome, result.path, result.manifest_path) == (Outcome.FAILED, None, None)
    assert result.problems
    assert "manifest could not be written" in capsys.readouterr().out


def test_a_directory_that_becomes_writable_gets_an_aligned_file(tmp_path: Path) -> None:
    blocker = tmp_path / "acme"
    blocker.write_text("")
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=4)
    take.run(2)
    blocker.unlink()
    result = take.finish()
    samples, _ = soundfile.read(result.path, dtype="int16")
    assert np.array_equal(samples[2 * RATE :, 1], ULAW[take.audio[Side.PROSPECT]][2 * RATE :])


def test_a_manifest_that_cannot_be_written_leaves_what_recovery_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=2)
    take.run(2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("media.recorder.Chain.append", full)
    result = take.finish()
    assert result.outcome is Outcome.FAILED
    assert sorted(p.name for p in (tmp_path / DAY).iterdir()) == ["call-1.part.json", "call-1.wav.part"]


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"count": "x", "head": 1}', '{"count": 1}'])
def test_a_damaged_head_of_the_chain_leaves_what_recovery_needs(tmp_path: Path, content: str) -> None:
    (tmp_path / "acme").mkdir()
    chain = tmp_path / "acme" / "chain.json"
    chain.write_text(content)
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand)
    take.run(2)
    result = take.finish()
    assert result.outcome is Outcome.FAILED
    assert any("the manifest could not be written" in problem for problem in result.problems)
    assert (tmp_path / DAY / "call-1.wav.part").exists()
    assert (tmp_path / DAY / "call-1.part.json").exists()
    chain.unlink()
    assert [one.outcome for one in recover(tmp_path)] == [Outcome.RECOVERED]


def test_a_defect_in_one_recording_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    recorder = quiet_recorder(tmp_path, hand)
    broken, good = Take(recorder, hand, call_id="broken"), Take(recorder, hand, call_id="good")

    def defect(_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(broken.recording, "step", defect)
    assert good.finish().outcome is Outcome.COMPLETE


def test_many_recordings_make_one_chain(tmp_path: Path) -> None:
    for number in range(5):
        record(tmp_path, list(CaptureMode)[number % 3], call_id=f"call-{number}")
    assert audit(tmp_path).findings == []
    chain = json.loads((tmp_path / "acme" / "chain.json").read_text())
    assert chain["count"] == 5


def test_undecodable_audio_is_said(tmp_path: Path) -> None:
    hand = Hand()
    packets = [Captured(p.at, p.seq, p.ts, p.payload, pt=18) for p in stream(sound(2 * RATE))]
    take = Take(quiet_recorder(tmp_path, hand), hand, CaptureMode.AGENT_ONLY, seconds=2, packets={Side.AGENT: packets})
    from media.engine import Codec

    take.recording.set_codecs(Side.AGENT, {18: Codec("G729", 8000)}, hand.ns)
    result = take.finish()
    assert result.outcome is Outcome.DEGRADED
    assert result.problems == ("agent: 100 packets of G729 could not be decoded",)
    assert result.samples == 2 * RATE


def test_the_thread_writes_and_stops(tmp_path: Path) -> None:
    from media.recorder import Recorder

    recorder = Recorder(tmp_path, step_seconds=0.02)
    hand = Hand()
    recorder.clock = hand.clock()
    take = Take(recorder, hand, seconds=2)
    hand.ns += 2 * SECOND
    done = take.recording.finish(hand.ns, {}, {side: take.source.drain(side) for side in Side}, take.source.stats())
    assert done.result(timeout=10).outcome is Outcome.COMPLETE
    recorder.close(5)


def paused_take(tmp_path: Path, mode: CaptureMode = CaptureMode.BOTH) -> Take:
    """Paused from second 1 to 2, and from 2.5 to 3; what came meanwhile was captured by nobody."""
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, mode, seconds=4)
    for begin, end in ((1.0, 2.0), (2.5, 3.0)):
        take.run(begin, step=0.25)
        take.recording.pause(hand.ns, {side: take.source.drain(side) for side in Side}, {"via": "api", "by": "boss"})
        take.run(begin, step=0.25)
        hand.ns = take.start + int(end * SECOND)
        for side in Side:
            take.source.drain(side)
        take.recording.resume(hand.ns, {"via": "api", "by": "boss"})
    return take


@pytest.mark.parametrize("mode", [CaptureMode.BOTH, CaptureMode.AGENT_ONLY])
def test_a_pause_is_silence_of_its_length_and_its_edges_are_in_the_manifest(tmp_path: Path, mode: CaptureMode) -> None:
    take = paused_take(tmp_path, mode)
    result = take.finish()
    samples, _ = soundfile.read(result.path, dtype="int16", always_2d=True)
    assert len(samples) == 4 * RATE
    for side in range(samples.shape[1]):
        wanted = ULAW[take.audio[Side(side)]].copy()
        wanted[8000:16000] = wanted[20000:24000] = 0
        assert np.array_equal(samples[:, side], wanted)
    manifest = manifest_of(result.manifest_path)
    assert manifest["pauses"] == [[8000, 16000], [20000, 24000]]
    assert [(e["event"], e["sample"], e["by"]) for e in manifest["events"]] == [
        ("pause", 8000, "boss"), ("pause_end", 16000, "boss"), ("pause", 20000, "boss"), ("pause_end", 24000, "boss"),
    ]  # fmt: skip
    assert manifest["legs"]["agent"]["concealed"] == []
    assert manifest["legs"]["agent"]["gaps"] == [[8000, 16000], [20000, 24000]]
    assert result.outcome is Outcome.COMPLETE
    assert audit(tmp_path).findings == []


def test_the_auditor_hears_what_is_not_silent_in_a_pause(tmp_path: Path) -> None:
    result = paused_take(tmp_path).finish()
    assert result.manifest_path is not None
    manifest = manifest_of(result.manifest_path)
    manifest["pauses"].append([16000, 16100])
    result.manifest_path.write_text(json.dumps(manifest))
    assert "captured while paused" in [f.kind for f in audit(tmp_path).findings]


def test_a_call_that_ends_while_it_is_paused(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=3)
    take.run(2)
    take.recording.pause(hand.ns, {side: take.source.drain(side) for side in Side}, {})
    hand.ns += SECOND
    done = take.recording.finish(hand.ns, {}, {}, take.source.stats())
    take.recorder.run_once()
    result = done.result(timeout=0)
    samples, _ = soundfile.read(result.path, dtype="int16")
    assert len(samples) == 3 * RATE
    assert not samples[16000:].any()
    assert manifest_of(result.manifest_path)["pauses"] == [[16000, 24000]]
    assert audit(tmp_path).findings == []


def test_the_narrowed_leg_stays_silent_after_a_pause(tmp_path: Path) -> None:
    hand = Hand()
    take = Take(quiet_recorder(tmp_path, hand), hand, seconds=4)
    take.run(1)
    take.recording.pause(hand.ns, {side: take.source.drain(side) for side in Side}, {})
    take.recording.narrow(CaptureMode.AGENT_ONLY, "policy", hand.ns, {})
    take.run(1)
    hand.ns += SECOND
    for side in Side:
        take.source.drain(side)
    take.recording.resume(hand.ns, {})
    result = take.finish()
    samples, _ = soundfile.read(result.path, dtype="int16")
    assert samples[16000:, 0].any() and not samples[8000:, 1].any()
    assert audit(tmp_path).findings == []
