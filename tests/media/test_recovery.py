"""kill -9 at any moment: what is there can be read at once, and is finished on the next start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.codecs import ULAW
from media.engine import CaptureMode, Outcome
from media.recovery import recover
from scripts.audit_recordings import audit
from tests.support.recordings import record
from tests.support.rtp_stream import sound

RECORDS = """
    import sys, time
    from pathlib import Path
    from media.engine import CaptureMode, Side
    from media.recorder import Recorder
    from tests.support.recordings import Hand, Take
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    hand = Hand()
    recorder = Recorder(root, clock=hand.clock(), thread=False)
    takes = [Take(recorder, hand, CaptureMode.BOTH, seconds=600, call_id=f"call-{n}") for n in range(count)]
    print("ready", flush=True)
    number = 0
    while True:
        hand.ns += 100_000_000
        recorder.run_once()
        number += 1
        if number % 7 == 0 and count > 2:
            takes.pop().recording.finish(hand.ns, {"kind": "completed"}, {}, takes[0].source.stats())
            takes.insert(0, Take(recorder, hand, CaptureMode.BOTH, seconds=60, call_id=f"more-{number}"))
"""


def largest_part(root: Path) -> int:
    """Bytes; 0 where there is no file that is being written."""
    sizes = [0]
    for part in root.rglob("*.wav.part"):
        with contextlib.suppress(FileNotFoundError):  # it has just been finished
            sizes.append(part.stat().st_size)
    return max(sizes)


def killed(root: Path, after: float, count: int = 4, least: int = 44) -> None:
    """A process that records ``count`` calls at once, and finishes one now and then, killed after a time, when some
    file has ``least`` bytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECORDS), str(root), str(count)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + after
    while time.monotonic() < deadline or largest_part(root) < least:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    process.stdout.close()


@pytest.mark.parametrize("after", [0.0, 0.013, 0.05, 0.11, 0.2, 0.37])
def test_after_kill_9_files_are_readable_and_recovery_finishes_them(tmp_path: Path, after: float) -> None:
    killed(tmp_path, after)
    parts = list(tmp_path.rglob("*.wav.part"))
    assert parts
    wanted = {side: ULAW[sound(600 * 8000, seed=side + 1)] for side in (0, 1)}
    for part in parts:
        samples, rate = soundfile.read(part, dtype="int16", always_2d=True)
        assert rate == 8000
        assert samples.shape[1] == 2
        if part.name.startswith("call-"):
            for side in (0, 1):
                assert np.array_equal(samples[:, side], wanted[side][: len(samples)])
    results = recover(tmp_path)
    assert {result.outcome for result in results} <= {Outcome.RECOVERED, Outcome.COMPLETE, Outcome.FAILED}
    assert not list(tmp_path.rglob("*.part*"))
    assert audit(tmp_path).findings == []
    assert recover(tmp_path) == []


def test_what_was_recovered_says_so(tmp_path: Path) -> None:
    killed(tmp_path, 0.05, count=1, least=45)
    (result,) = recover(tmp_path)
    assert result.outcome is Outcome.RECOVERED
    assert result.manifest_path is not None
    manifest = json.loads(result.manifest_path.read_text())
    assert "the gateway stopped while this call was recorded" in manifest["problems"][0]
    assert manifest["decision"]["mode"] == "both"
    assert manifest["audio"]["samples"] == result.samples > 0


def test_a_kill_between_file_and_manifest(tmp_path: Path) -> None:
    """The audio has its name already, the manifest is not there yet."""
    killed(tmp_path, 0.05, count=1, least=45)
    (part,) = tmp_path.rglob("*.wav.part")
    part.rename(part.with_suffix(""))
    (result,) = recover(tmp_path)
    assert result.outcome is Outcome.RECOVERED
    assert audit(tmp_path).findings == []


def test_a_kill_between_manifest_and_sidecar(tmp_path: Path) -> None:
    result = record(tmp_path)
    assert result.manifest_path is not None
    manifest = json.loads(result.manifest_path.read_text())
    sidecar = result.manifest_path.with_name("call-1.part.json")
    kept = ("organization", "call_id", "mode", "decision", "call", "started")
    sidecar.write_text(json.dumps({key: manifest[key] for key in kept}))
    (again,) = recover(tmp_path)
    assert (again.outcome, again.sha256) == (Outcome.COMPLETE, result.sha256)
    assert not sidecar.exists()
    assert audit(tmp_path).findings == []


def test_a_kill_between_manifest_and_the_head_of_the_chain(tmp_path: Path) -> None:
    """The manifest is in place, chain.json still names the one before."""
    record(tmp_path, call_id="call-1")
    head = (tmp_path / "acme" / "chain.json").read_bytes()
    result = record(tmp_path, call_id="call-2")
    assert result.manifest_path is not None
    (tmp_path / "acme" / "chain.json").write_bytes(head)
    manifest = json.loads(result.manifest_path.read_text())
    kept = ("organization", "call_id", "mode", "decision", "call", "started")
    result.manifest_path.with_name("call-2.part.json").write_text(json.dumps({key: manifest[key] for key in kept}))
    recover(tmp_path)
    record(tmp_path, call_id="call-3")
    assert audit(tmp_path).findings == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"call_id": 7}', b"\xff\xfe", b'{"call_id":"../../x"}'])
def test_a_sidecar_that_cannot_be_read_stops_nothing(tmp_path: Path, content: bytes) -> None:
    record(tmp_path, CaptureMode.BOTH)
    day = tmp_path / "acme/2026/11/24"
    (day / "a.part.json").write_bytes(content)
    assert recover(tmp_path) == []
    assert (day / "call-1.wav").exists()


def test_a_kill_before_a_small_file_had_its_name(tmp_path: Path) -> None:
    """Sidecar, manifest and head of the chain are each written under another name first."""
    killed(tmp_path, 0.05, count=1, least=45)
    (sidecar,) = tmp_path.rglob("*.part.json")
    for path in (sidecar, sidecar.with_name("call-9.json"), tmp_path / "acme" / "chain.json"):
        path.with_name(path.name + ".tmp").write_bytes(b'{"call_id"')
    (result,) = recover(tmp_path)
    assert result.outcome is Outcome.RECOVERED
    assert not list(tmp_path.rglob("*.tmp"))
    assert audit(tmp_path).findings == []


def test_a_part_that_is_no_wav_is_said_to_be_lost(tmp_path: Path) -> None:
    killed(tmp_path, 0.05, count=1, least=45)
    (part,) = tmp_path.rglob("*.wav.part")
    part.write_bytes(b"not audio")
    (result,) = recover(tmp_path)
    assert result.outcome is Outcome.FAILED
    assert any("no audio could be recovered" in problem for problem in result.problems)
