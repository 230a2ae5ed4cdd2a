"""FLAC and Ogg Opus: what a finished recording becomes, and what a crash leaves of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from gateway.web.peaks import peaks
from media.engine import CaptureMode, Outcome, Side
from media.formats import Converter, FileFormat, convert, format_of_file
from media.recorder import Recorder
from media.recovery import recover
from scripts.audit_recordings import audit
from tests.support.encoders import CODECS, Samples, sent, snr, speech
from tests.support.recordings import SECOND, Hand, Take, quiet_recorder
from tests.support.rtp_stream import Captured

DAY = Path("acme/2026/11/24")
LOSSLESS = {FileFormat.WAV, FileFormat.FLAC}


def manifest_of(path: Path | None) -> dict[str, Any]:
    assert path is not None
    return dict(json.loads(path.read_text()))


def voices(pt: int, rate: int, seconds: float = 3) -> tuple[dict[Side, list[Captured]], dict[Side, Samples]]:
    said = {side: speech(seconds, rate, seed=side + 1) for side in Side}
    return {side: sent(pt, sound) for side, sound in said.items()}, said


def take_of(
    root: Path, file_format: FileFormat, packets: dict[Side, list[Captured]], mode: CaptureMode = CaptureMode.BOTH,
    call_id: str = "call-1", **options: Any,
) -> Take:  # fmt: skip
    hand = Hand()
    recorder = quiet_recorder(root, hand, file_format=file_format, **options)
    take = Take(recorder, hand, mode, packets=packets, call_id=call_id)
    for side in Side:
        take.recording.set_codecs(side, CODECS, hand.ns)
    return take


@pytest.mark.parametrize("file_format", FileFormat)
@pytest.mark.parametrize(("pt", "source", "rate"), [(0, 8000, 8000), (9, 16000, 16000), (96, 48000, 16000)])
def test_a_recording_in_each_format(tmp_path: Path, file_format: FileFormat, pt: int, source: int, rate: int) -> None:
    packets, _ = voices(pt, source)
    tmp_path, beside = tmp_path / "one", tmp_path / "other"
    result = take_of(tmp_path, file_format, packets).finish()
    assert result.path == tmp_path / DAY / f"call-1.{file_format}"
    assert (result.outcome, result.sample_rate, result.channels) == (Outcome.COMPLETE, rate, 2)
    assert (result.samples, result.size_bytes) == (3 * rate, result.path.stat().st_size)
    assert sorted(p.name for p in (tmp_path / DAY).iterdir()) == sorted(["call-1.json", f"call-1.{file_format}"])
    manifest = manifest_of(result.manifest_path)
    assert manifest["audio"]["format"] == file_format.label
    heard, found = soundfile.read(result.path, dtype="int16")
    assert (found, heard.shape) == (rate, (3 * rate, 2))
    plain, _ = soundfile.read(take_of(beside, FileFormat.WAV, packets).finish().path, dtype="int16")
    for channel in (0, 1):
        if file_format in LOSSLESS:
            assert np.array_equal(heard[:, channel], plain[:, channel])
        else:
            quality, lag = snr(plain[:, channel], heard[:, channel], 200)
            assert quality > 8
            assert abs(lag) <= rate // 500
    assert audit(tmp_path).findings == []
    assert recover(tmp_path) == []
    drawn = peaks(result.path, 100)
    assert (drawn["samples"], drawn["channels"]) == (3 * rate, 2)


@pytest.mark.parametrize("file_format", FileFormat)
def test_the_better_leg_says_the_rate(tmp_path: Path, file_format: FileFormat) -> None:
    packets = {Side.AGENT: sent(0, speech(3, 8000)), Side.PROSPECT: sent(96, speech(3, 48000, 2))}
    result = take_of(tmp_path, file_format, packets).finish()
    assert result.sample_rate == 16000
    heard, _ = soundfile.read(result.path, dtype="int16")
    for side in Side:
        quality, lag = snr(speech(3, 16000, side + 1), heard[:, side], 400)
        assert quality > 8
        assert abs(lag) < 16000 * 0.02  # both within 20 ms
    alone = take_of(tmp_path, file_format, packets, CaptureMode.AGENT_ONLY, "call-2").finish()
    assert alone.sample_rate == 8000  # the prospect's codec is none of this file's business
    assert audit(tmp_path).findings == []


def test_a_rate_that_ogg_opus_does_not_have(tmp_path: Path) -> None:
    packets = {Side.AGENT: sent(11, speech(2, 44100))}
    for file_format, rate in ((FileFormat.WAV, 44100), (FileFormat.FLAC, 44100), (FileFormat.OGG, 48000)):
        take = take_of(tmp_path, file_format, packets, CaptureMode.AGENT_ONLY, f"call-{file_format}")
        assert take.finish().sample_rate == rate
    assert audit(tmp_path).findings == []


def test_a_leg_that_is_silent_at_first_counts_by_what_was_agreed(tmp_path: Path) -> None:
    packets = {Side.AGENT: sent(0, speech(3, 8000)), Side.PROSPECT: []}
    take = take_of(tmp_path, FileFormat.WAV, packets)
    take.recording.set_codecs(Side.PROSPECT, {9: CODECS[9]}, take.hand.ns)
    assert take.finish().sample_rate == 16000


@pytest.mark.parametrize("file_format", [FileFormat.FLAC, FileFormat.OGG])
def test_a_conversion_that_fails_keeps_the_wav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: FileFormat
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("media.recorder.convert", full)
    result = take_of(tmp_path, file_format, voices(0, 8000)[0]).finish()
    assert (result.path, result.outcome) == (tmp_path / DAY / "call-1.wav", Outcome.DEGRADED)
    assert os.strerror(errno.ENOSPC) in result.problems[0]
    assert manifest_of(result.manifest_path)["outcome"] == "degraded"
    assert audit(tmp_path).findings == []


@pytest.mark.parametrize("file_format", [FileFormat.FLAC, FileFormat.OGG])
@pytest.mark.parametrize("when", ["before", "half", "after", "manifest"])
def test_a_kill_around_the_conversion_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: FileFormat, when: str
) -> None:
    """The call had ended as it should; the next start finishes the file, and the recording is as complete as it was."""
    packets, _ = voices(0, 8000)

    class Killed(BaseException):
        pass

    def dies(source: Path, target: Path, format_: FileFormat) -> None:
        if when == "half":
            target.with_name(target.name + ".tmp").write_bytes(b"fLaC half")
        if when in ("after", "manifest"):
            convert(source, target, format_)
        if when != "manifest":
            raise Killed

    monkeypatch.setattr("media.recorder.convert", dies)
    if when == "manifest":  # in place, with the working files still there
        unlink = Path.unlink
        monkeypatch.setattr(Path, "unlink", lambda self, **_: (_ for _ in ()).throw(Killed))
    take = take_of(tmp_path, file_format, packets)
    take.run(1)
    take.recording.pause(take.hand.ns, {side: take.source.drain(side) for side in Side}, {"via": "api"})
    take.run(2)
    take.recording.resume(take.hand.ns, {"via": "api"})
    with pytest.raises(Killed):
        take.finish()
    if when == "manifest":
        monkeypatch.setattr(Path, "unlink", unlink)
    assert (tmp_path / DAY / "call-1.wav.part").exists()
    (result,) = recover(tmp_path)
    assert result.outcome is Outcome.COMPLETE
    assert result.path == tmp_path / DAY / f"call-1.{file_format}"
    manifest = manifest_of(result.manifest_path)
    assert manifest["termination"] == {"kind": "completed"}
    assert manifest["pauses"] == [[8000, 16000]]
    assert manifest["legs"]["agent"]["placed"] > 0
    assert sorted(p.name for p in (tmp_path / DAY).iterdir()) == sorted(["call-1.json", f"call-1.{file_format}"])
    assert audit(tmp_path).findings == []


@pytest.mark.parametrize("file_format", FileFormat)
def test_a_kill_during_the_call_is_recovered_in_the_format(tmp_path: Path, file_format: FileFormat) -> None:
    take = take_of(tmp_path, file_format, voices(9, 16000)[0])
    take.run(1.2)
    take.recording.pause(take.hand.ns, {side: take.source.drain(side) for side in Side}, {"via": "api"})
    take.run(2.5)
    samples, rate = soundfile.read(tmp_path / DAY / "call-1.wav.part", dtype="int16")
    assert rate == 16000
    (result,) = recover(tmp_path)
    assert (result.outcome, result.samples, result.sample_rate) == (Outcome.RECOVERED, len(samples), 16000)
    manifest = manifest_of(result.manifest_path)
    assert manifest["pauses"] == [[19200, len(samples)]]
    assert [event["event"] for event in manifest["events"]] == ["pause"]
    assert audit(tmp_path).findings == []


def test_the_converter_works_in_its_own_thread(tmp_path: Path) -> None:
    hand = Hand()
    recorder = Recorder(tmp_path, step_seconds=0.02, file_format=FileFormat.FLAC)
    recorder.clock = hand.clock()
    take = Take(recorder, hand, seconds=2)
    hand.ns += 2 * SECOND
    done = take.recording.finish(hand.ns, {}, {side: take.source.drain(side) for side in Side}, take.source.stats())
    result = done.result(timeout=20)
    assert result.outcome is Outcome.COMPLETE
    heard, _ = soundfile.read(result.path, dtype="int16")
    assert heard.shape == (16000, 2)
    assert heard[:, 0].any()
    recorder.close(5)


def test_a_converter_does_one_thing_after_the_other() -> None:
    from threading import Event

    done: list[int] = []
    last = Event()
    converter = Converter()
    for number in range(5):
        converter.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    converter.submit(last.set)
    assert last.wait(10)
    converter.close()
    assert done == [0, 1, 2, 3, 4]


def test_convert_leaves_nothing_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "x.wav.part").write_bytes(b"no audio")
    with pytest.raises(OSError):
        convert(tmp_path / "x.wav.part", tmp_path / "x.flac", FileFormat.FLAC)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav.part"]


def test_a_file_tells_its_format_by_its_suffix() -> None:
    assert format_of_file(Path("a/b.flac")) is FileFormat.FLAC
    with pytest.raises(ValueError):
        format_of_file(Path("a/b.mp3"))
