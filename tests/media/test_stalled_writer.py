"""A disk that stands still for ten seconds under two hundred calls: they go on, and manifests say what is missing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from media.codecs import Samples
from media.engine import Address, CaptureMode, Codec, Outcome, RecordingRequest, RecordingResult, Side
from media.native import NativeMediaEngine, NativeMediaSession
from media.recorder import Recorder
from media.wav import WavWriter
from scripts.audit_recordings import audit
from scripts.media_peers import HOST, Load, Plan

CALLS, SECONDS = 200, 11.0
RING = 64 * 1024
"""Room for about seven seconds of a leg."""


class Disk:
    """Files that take nothing while it is stalled."""

    def __init__(self) -> None:
        self.moving = threading.Event()
        self.moving.set()

    def open(self, path: Path, channels: int, *more: int) -> WavWriter:
        disk = self

        class Stalling(WavWriter):
            def append(self, samples: Samples) -> None:
                disk.moving.wait(60)
                super().append(samples)

        return Stalling(path, channels, *more)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def open_calls(engine: NativeMediaEngine, far_ends: tuple[int, int]) -> list[NativeMediaSession]:
    sessions = []
    for number in range(CALLS):
        session = engine.open(
            agent_host=HOST, prospect_host=HOST, capture=CaptureMode.BOTH,
            recording=RecordingRequest("acme", f"call-{number}", decision={"mode": "both"}),
        )  # fmt: skip
        for side in Side:
            session.set_remote(side, Address(HOST, far_ends[side]))
            session.set_codecs(side, {0: Codec("PCMU", 8000)})
        session.start_capture()
        sessions.append(session)
    return sessions


@pytest.mark.timing
def test_ten_seconds_without_a_writer(tmp_path: Path) -> None:
    disk, recordings = Disk(), tmp_path / "recordings"
    engine = NativeMediaEngine(Recorder(recordings, open_file=disk.open), port_range=(18000, 19999), ring_bytes=RING)
    load = Load(Plan(tmp_path, CALLS, SECONDS))
    try:
        sessions = open_calls(engine, load.far_ends)
        before = resident_bytes()
        threading.Timer(0.5, disk.moving.clear).start()  # ten seconds and more of the load's eleven
        counted = load.run([(s.local(Side.AGENT).port, s.local(Side.PROSPECT).port) for s in sessions])
        grown = resident_bytes() - before
        ring_lost = [leg.ring_lost for s in sessions for leg in (s.stats().agent, s.stats().prospect)]
        disk.moving.set()
        results = [session.close({}).result(60) for session in sessions]
    finally:
        disk.moving.set()
        load.kill()
        engine.close(30)
    assert counted["sent"] == 50 * 2 * CALLS * SECONDS
    assert (counted["received"], counted["wrong"], counted["reordered"]) == (counted["sent"], 0, 0)
    assert counted["p99_ms"] < 100  # (a stalled writer would make it seconds; a busy machine makes it tens)
    assert grown < 2 * CALLS * 2 * RING + 32 * 1024 * 1024
    assert min(ring_lost) > 0
    for result in results:
        assert result is not None and result.outcome is Outcome.DEGRADED
        check_manifest(result)
    assert audit(recordings).findings == []


def check_manifest(result: RecordingResult) -> None:
    """What the rings lost is told, leg by leg, and is a gap in the file."""
    assert result.manifest_path is not None
    manifest = json.loads(result.manifest_path.read_text())
    for name in ("agent", "prospect"):
        leg = manifest["legs"][name]
        assert leg["ring_lost"] > 0 and leg["received"] == leg["forwarded"] == 50 * SECONDS
        assert leg["captured"] + leg["ring_lost"] == leg["received"]
        assert any(problem.startswith(f"{name}: {leg['ring_lost']} packets") for problem in manifest["problems"])
        assert sum(end - begin for begin, end in leg["gaps"]) >= leg["ring_lost"] * 160 * 0.9
