"""The auditor: one finding for each thing that can be wrong, none where nothing is."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from media.engine import CaptureMode
from scripts.audit_recordings import audit, main
from tests.support.recordings import record

DAY = Path("acme/2026/11/24")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three recordings: both, agent_only, none."""
    for mode in (CaptureMode.BOTH, CaptureMode.AGENT_ONLY, CaptureMode.NONE):
        record(tmp_path, mode, call_id=str(mode), seconds=1)
    return tmp_path


def edit(tree: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = tree / DAY / f"{name}.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def kinds(tree: Path) -> set[str]:
    return {finding.kind for finding in audit(tree).findings}


def test_a_clean_tree(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tree)]) == 0
    assert "Clean" in capsys.readouterr().out
    report = audit(tree)
    assert (report.manifests, report.audio_files, report.in_progress) == (3, 2, 0)
    assert report.by_mode == {"both": 1, "agent_only": 1, "none": 1}


def test_a_call_that_is_just_being_finished(tree: Path) -> None:
    """The file has its name, the manifest is not there yet; only for as long as that takes."""
    path = tree / DAY / "both.json"
    path.rename(path.with_suffix(".part.json"))
    (tree / "acme" / "chain.json").unlink()
    assert "orphan audio" not in kinds(tree)
    assert audit(tree).in_progress == 1
    os.utime(path.with_suffix(".part.json"), (0, 0))
    assert "orphan audio" in kinds(tree)


def test_calls_that_end_while_the_audit_runs(tmp_path: Path) -> None:
    ended = threading.Event()

    def calls() -> None:
        for number in range(150):
            record(tmp_path, call_id=f"call-{number}", seconds=1)
        ended.set()

    thread = threading.Thread(target=calls)
    thread.start()
    while not ended.is_set():
        assert audit(tmp_path).findings == []
    thread.join()
    report = audit(tmp_path)
    assert (report.findings, report.manifests, report.audio_files) == ([], 150, 150)


def test_json_for_machines(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / DAY / "both.wav").unlink()
    assert main([str(tree), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["findings"] == [
        {"file": str(DAY / "both.json"), "kind": "missing file", "detail": "both.wav is not there"}
    ]


def test_one_byte_of_the_audio_changed(tree: Path) -> None:
    path = tree / DAY / "both.wav"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert kinds(tree) == {"changed audio"}


def test_stereo_where_only_the_agent_may_be(tree: Path) -> None:
    samples = np.zeros((8000, 2), dtype=np.int16)
    soundfile.write(tree / DAY / "agent_only.wav", samples, 8000, subtype="PCM_16")
    assert {"changed audio", "wrong channels"} <= kinds(tree)


def test_audio_where_none_may_be(tree: Path) -> None:
    (tree / DAY / "none.wav").write_bytes((tree / DAY / "both.wav").read_bytes())
    assert kinds(tree) == {"forbidden audio"}


def test_a_shorter_file(tree: Path) -> None:
    samples, _ = soundfile.read(tree / DAY / "both.wav", dtype="int16")
    soundfile.write(tree / DAY / "both.wav", samples[:-100], 8000, subtype="PCM_16")
    assert {"changed audio", "wrong samples"} <= kinds(tree)


def test_another_sample_rate_or_format(tree: Path) -> None:
    samples, _ = soundfile.read(tree / DAY / "both.wav", dtype="int16")
    soundfile.write(tree / DAY / "both.wav", samples, 16000, subtype="PCM_24")
    assert {"wrong sample rate", "wrong format"} <= kinds(tree)


def test_what_is_no_audio_at_all(tree: Path) -> None:
    (tree / DAY / "both.wav").write_bytes(b"noise")
    assert kinds(tree) == {"unreadable audio"}


def test_audio_without_a_manifest(tree: Path) -> None:
    (tree / DAY / "stray.wav").write_bytes((tree / DAY / "both.wav").read_bytes())
    assert kinds(tree) == {"orphan audio"}


def test_a_manifest_that_was_removed(tree: Path) -> None:
    (tree / DAY / "agent_only.json").unlink()
    assert kinds(tree) == {"broken chain", "orphan audio"}


def test_the_last_manifest_removed_with_its_file(tree: Path) -> None:
    (tree / DAY / "none.json").unlink()
    assert kinds(tree) == {"broken chain"}


def test_every_recording_of_an_organization_removed(tree: Path) -> None:
    shutil.rmtree(tree / "acme" / "2026")
    assert kinds(tree) == {"broken chain"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("both.mp3", "orphan audio"), ("both.WAV", "orphan audio"), ("both.wav.bak", "orphan file"), ("x", "orphan file"),
     ("x.part", "orphan file"), (".hidden.raw", "orphan audio"), ("chain.json", "unreadable manifest")],
)  # fmt: skip
def test_a_copy_under_another_name(tree: Path, name: str, kind: str) -> None:
    (tree / DAY / name).write_bytes((tree / DAY / "both.wav").read_bytes())
    assert kinds(tree) == {kind}


def test_a_pipe_is_no_recording(tree: Path) -> None:
    os.mkfifo(tree / DAY / "x.wav")
    assert kinds(tree) == {"orphan file"}


def test_a_directory_that_cannot_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("acme"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert "unreadable directory" in kinds(tree)


def test_an_edited_manifest(tree: Path) -> None:
    edit(tree, "both", lambda m: m["call"].update(direction="inbound"))
    assert kinds(tree) == {"broken chain"}


def test_a_capture_wider_than_its_decision(tree: Path) -> None:
    edit(tree, "both", lambda m: m["decision"].update(mode="agent_only"))
    assert "wider than decided" in kinds(tree)


def test_a_decision_that_is_not_there(tree: Path) -> None:
    edit(tree, "both", lambda m: m["decision"].clear())
    assert "no decision" in kinds(tree)


def test_sound_after_a_narrowing(tree: Path) -> None:
    edit(tree, "both", lambda m: m["events"].append({"event": "narrow", "mode": "agent_only", "sample": 4000}))
    assert "captured after narrowing" in kinds(tree)


def test_a_manifest_in_another_place(tree: Path) -> None:
    day = tree / "acme/2026/11/25"
    day.mkdir()
    for name in ("both.json", "both.wav"):
        (tree / DAY / name).rename(day / name)
    assert "misplaced" in kinds(tree)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"mode": "both"}'])
def test_a_manifest_that_cannot_be_read(tree: Path, content: bytes) -> None:
    (tree / DAY / "bad.json").write_bytes(content)
    assert kinds(tree) <= {"unreadable manifest", "bad manifest"}
    assert kinds(tree)


@pytest.mark.parametrize("file", ["../../../../../etc/passwd", "/etc/passwd", "..", "", "both.wav/"])
def test_a_manifest_that_points_elsewhere(tree: Path, file: str) -> None:
    edit(tree, "both", lambda m: m["audio"].update(file=file))
    assert {"bad manifest", "missing file"} & kinds(tree)


def test_links_are_not_followed(tree: Path) -> None:
    (tree / DAY / "link.wav").symlink_to("/etc/passwd")
    assert kinds(tree) == {"symbolic link"}


def test_directories_with_names_of_files(tree: Path) -> None:
    (tree / DAY / "x.wav").mkdir()
    (tree / DAY / "x.json").mkdir()
    assert kinds(tree) == set()


def test_a_recording_in_progress_is_no_finding_and_an_abandoned_one_is(tree: Path) -> None:
    part = tree / DAY / "live.wav.part"
    part.write_bytes((tree / DAY / "both.wav").read_bytes())
    assert audit(tree).findings == []
    assert audit(tree).in_progress == 1
    os.utime(part, (time.time() - 10_000,) * 2)
    assert kinds(tree) == {"unfinished"}


def test_a_head_of_the_chain_that_was_put_back(tree: Path) -> None:
    (tree / "acme" / "chain.json").write_text(json.dumps({"count": 2, "head": "0" * 64}))
    assert kinds(tree) == {"broken chain"}


def test_a_directory_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "not a directory" in capsys.readouterr().err
