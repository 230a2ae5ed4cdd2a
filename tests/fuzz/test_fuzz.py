"""The fuzzer's kept inputs, and a short run on each target; ``make fuzz`` runs for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS
from tests.fuzz.targets import TARGETS

RUNS = {"message": 8_000, "sdp": 4_000, "stream": 4_000, "digest": 30_000, "agent": 5_000}


def search(target: str, runs: int, found: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        target,
        "--runs",
        str(runs),
        "--seed",
        "7",
        "--found",
        str(found),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("target", RUNS)
def test_the_kept_inputs_find_nothing(target: str) -> None:
    inputs = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    assert len(inputs) >= 5
    run = TARGETS[target]()
    for data in inputs:
        run(data)


@pytest.mark.parametrize("target", RUNS)
def test_a_short_search_finds_nothing(target: str, tmp_path: Path) -> None:
    run = search(target, RUNS[target], tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"Done {RUNS[target]} runs" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_search_follows_branches(tmp_path: Path) -> None:
    """It finds in a few thousand steps what chance would find once in 2**32: so the others are searched, too."""
    run = search("proof", 300_000, tmp_path)
    assert run.returncode == 77, run.stderr[-3000:]
    (found,) = tmp_path.iterdir()
    assert found.read_bytes().startswith(b"SIP!")
