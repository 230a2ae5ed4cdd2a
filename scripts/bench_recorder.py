"""What a recorded second costs: CPU microseconds of the writer, stereo and mono, many recordings side by side.

Packets come from memory as the relay's rings hand them over (50 a second and leg, 20 ms of mu-law), files are real and
go to a temporary directory. Only the recorder's own time is counted: drain, decode, place, write.

    python -m scripts.bench_recorder [--quick] [--recordings N] [--seconds N] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from media.engine import CaptureMode, Codec, LegStats, RecordingRequest, SessionStats, Side
from media.recorder import Clock, Recorder

PACKETS, SAMPLES = 50, 160
SETTLING = 2
"""Seconds in which a recording opens its file and finds its anchors, packet by packet; not counted."""
SECOND = 10**9
RECORD = np.dtype(
    {
        "names": ["at", "ts", "ssrc", "seq", "pt", "flags", "length", "payload"],
        "formats": ["<u8", "<u4", "<u4", "<u2", "u1", "u1", "<u2", ("u1", SAMPLES)],
        "offsets": [0, 8, 12, 16, 18, 19, 20, 24],
        "itemsize": 24 + SAMPLES,
    }
)
"""A ring record of 20 ms of G.711; see ``media/relay.pyi``."""


class Feed:
    """A capture source: each drain gives the packets of one second."""

    def __init__(self, start_ns: int, seed: int) -> None:
        self._start = start_ns
        self._packets = np.zeros(PACKETS, dtype=RECORD)
        self._packets["length"], self._packets["ssrc"] = SAMPLES, seed
        self._packets["payload"] = np.random.default_rng(seed).integers(0, 256, (PACKETS, SAMPLES), dtype=np.uint8)
        self._next = dict.fromkeys(Side, b"")

    def second(self, number: int) -> None:
        """Make ready what arrives in second ``number`` (before the clock is looked at)."""
        index = np.arange(number * PACKETS, (number + 1) * PACKETS, dtype=np.int64)
        self._packets["at"] = self._start + (index + 1) * (SECOND // PACKETS)
        self._packets["seq"], self._packets["ts"] = index & 0xFFFF, index * SAMPLES
        data = self._packets.tobytes()
        self._next = dict.fromkeys(Side, data)

    def drain(self, side: Side) -> bytes:
        data, self._next[side] = self._next[side], b""
        return data

    def stats(self) -> SessionStats:
        return SessionStats(LegStats(), LegStats())


def measure(mode: CaptureMode, recordings: int, seconds: int) -> float:
    """CPU microseconds per recorded second."""
    now = [10**15]
    with tempfile.TemporaryDirectory(prefix="bench-recorder-") as name:
        recorder = Recorder(
            Path(name), clock=Clock(lambda: now[0], lambda: datetime(2026, 1, 1, tzinfo=UTC)), thread=False
        )
        feeds = []
        for number in range(recordings):
            feed = Feed(now[0], number + 1)
            recording = recorder.start(RecordingRequest("bench", f"call-{number}"), mode, feed, now[0])
            for side in Side:
                recording.set_codecs(side, {0: Codec("PCMU", 8000)}, now[0])
            feeds.append(feed)
        recorder.run_once()
        spent = 0.0
        for second in range(seconds):
            now[0] += SECOND
            for feed in feeds:
                feed.second(second)
            began = time.process_time()
            recorder.run_once()
            if second >= SETTLING:
                spent += time.process_time() - began
    return spent * 1e6 / (recordings * (seconds - SETTLING))


def main(argv: list[str] | None = None) -> int:
    """Entry point; always 0, as a figure is no test."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--recordings", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--json", action="store_true", help="the medians as one JSON object")
    options = parser.parse_args(argv)
    found: dict[str, list[float]] = {"stereo (both)": [], "mono (agent_only)": []}
    for _ in range(1 if options.quick else options.runs):
        for label, mode in zip(found, (CaptureMode.BOTH, CaptureMode.AGENT_ONLY), strict=True):
            found[label].append(measure(mode, options.recordings, options.seconds))
    medians = {label: statistics.median(values) for label, values in found.items()}
    if options.json:
        print(json.dumps(medians))
        return 0
    table = Table(title=f"A recorded second: medians of {len(found['stereo (both)'])} runs, "
                  f"{options.recordings} recordings side by side")  # fmt: skip
    for heading in ("file", "CPU µs per second", "recordings per core"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for label, value in medians.items():
        table.add_row(label, f"{value:.1f}", f"{1e6 / value:,.0f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
