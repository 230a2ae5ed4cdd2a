"""What a forwarded packet costs: the media engine beside Debian's rtpengine and a bare loop of recv and send, in turn.

Three questions, the first two answered by medians of several runs taken in turn; nothing is asserted:

1. CPU for a packet, added latency, memory and file size at a given number of calls (see ``media_peers.py``).
2. How the cost goes with the number of calls: a table, and a picture.
3. How many calls one core bears with nothing lost (a search, each step run once), and what a second relay and writer
   thread adds. Who is measured is pinned to its cores and the load to the other: its own share of CPU is shown, and
   where it had not sent on time the figure is marked, as the load was then the limit.

    python -m scripts.bench_media [--quick] [--calls N] [--seconds S] [--runs N] [--json] [--picture FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from media.engine import CaptureMode, Codec
from media.quality import session_quality
from media.relay import Session, time_quality
from scripts.media_peers import Plan, Result, measure_echo, measure_engine, measure_rtpengine

Measure = Callable[[Plan], Result]
PARTS = ["costs", "curve", "most"]
LATE_SLOTS = 0.02
"""Share of its 1 ms slots that the load may begin 5 ms late, before it is taken for the limit."""


@dataclass(frozen=True)
class Contestant:
    """Whom to measure, doing what; ``peer`` is the name of whom its ratio is to."""

    name: str
    measure: Measure
    capture: CaptureMode
    peer: str = ""


ECHO = Contestant("bare recv and send", measure_echo, CaptureMode.NONE)
RELAY = Contestant("ours, relaying alone", measure_engine, CaptureMode.NONE, "rtpengine, alone")
AGENT = Contestant("ours, agent's leg", measure_engine, CaptureMode.AGENT_ONLY, "rtpengine, pcap")
STEREO = Contestant("ours, stereo WAV", measure_engine, CaptureMode.BOTH, "rtpengine, pcap")
PEER = Contestant("rtpengine, alone", measure_rtpengine, CaptureMode.NONE)
PCAP = Contestant("rtpengine, pcap", measure_rtpengine, CaptureMode.BOTH)


def run_once(contestant: Contestant, plan: Plan) -> Result:
    """In a directory of its own, that is removed afterwards."""
    with _scratch() as directory:
        return contestant.measure(replace(plan, directory=directory, capture=contestant.capture))


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-media-") as name:
        yield Path(name)


def in_turn(contestants: list[Contestant], plan: Plan, runs: int) -> list[Result]:
    """A row for each: medians of ``runs`` runs taken in turn, the worst of what was lost, the ratio to its peer."""
    found: dict[str, list[Result]] = {contestant.name: [] for contestant in contestants}
    for _ in range(runs):
        for contestant in contestants:
            found[contestant.name].append(run_once(contestant, plan))
    rows = [_median(name, results) for name, results in found.items()]
    for row, contestant in zip(rows, contestants, strict=True):
        peer = next((other for other in rows if other["name"] == contestant.peer), None)
        row["ratio"] = row["us_per_packet"] / peer["us_per_packet"] if peer else None
    return rows


def _median(name: str, found: list[Result]) -> Result:
    numbers = [key for key, value in found[0].items() if isinstance(value, int | float)]
    row: Result = {key: statistics.median(result[key] for result in found) for key in numbers}
    row |= {"name": name, "runs": len(found), "outcomes": found[-1].get("outcomes", {})}
    row["backend"] = found[-1].get("backend", "")
    for key in ("lost", "wrong", "reordered", "ring_lost"):
        row[key] = max(result.get(key, 0) for result in found)
    return row


def load_was_the_limit(result: Result) -> bool:
    """Whether the generator was late or refused, so that the figure says more of it than of who was measured."""
    return bool(result["refused"]) or result["late_slots"] > LATE_SLOTS * result["seconds"] * 1000


def curve(contestants: list[Contestant], plan: Plan, counts: list[int], runs: int) -> list[Result]:
    """Cost over number of calls."""
    return [
        row | {"calls": calls} for calls in counts for row in in_turn(contestants, replace(plan, calls=calls), runs)
    ]


def most_calls(contestant: Contestant, plan: Plan, step: int, limit: int) -> Result:
    """The most calls, in steps, that were borne on ``plan.cores`` with nothing lost; the row of that run."""
    best: Result = {"calls": 0, "us_per_packet": 0.0, "us_per_packet_of_load": 0.0, "p99_ms": 0.0, "limited": False}
    for calls in range(step, limit + 1, step):
        result = run_once(contestant, replace(plan, calls=calls))
        if result["lost"] or result.get("ring_lost"):
            best["limited"] = load_was_the_limit(result)
            break
        best = result | {"calls": calls, "limited": False}
    return best | {"name": contestant.name, "threads": plan.threads}


# -- what is shown ---------------------------------------------------------------------------------------------------


def show_costs(rows: list[Result], calls: int, console: Console) -> None:
    """The first table."""
    packets = (
        f"{calls} calls, {rows[0]['sent'] / rows[0]['seconds'] / 1000:.0f}k packets/s, medians of {rows[0]['runs']}"
    )
    table = _table(
        f"RTP forwarding, {packets}",
        "", "CPU µs\n/packet", "of rtp-\nengine", "p50\nms", "p99\nms", "p99.9\nms", "lost", "KiB/\ncall", "file\nKB/s",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["name"], f"{row['us_per_packet']:.2f}", f"{row['ratio']:.2f}×" if row["ratio"] else "",
            f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['p999_ms']:.2f}", f"{row['lost']:.0f}",
            f"{row['kib_per_call']:.0f}", f"{row.get('file_bytes_per_call_second', 0) / 1000:.0f}",
        )  # fmt: skip
    console.print(table)
    for row in rows:
        told = [f"{count} {word}" for word, count in row["outcomes"].items()]
        told += [row["backend"]] if row["backend"] else []
        told += [f"{row[key]} {key}" for key in ("wrong", "reordered", "ring_lost") if row[key]]
        if told:
            console.print(f"{row['name']}: {', '.join(told)}", highlight=False)


def quality_cost() -> str:
    """What knowing a stream's quality costs: for each packet natively, and once for a call."""
    session, calls = Session.detached(), 2000
    codecs = {0: Codec("PCMU", 8000)}
    began = time.perf_counter()
    for _ in range(calls):
        session_quality(session.quality(), (codecs, codecs)).as_dict()
    for_a_call = (time.perf_counter() - began) / calls * 1e6
    return f"of that, quality: {time_quality(10_000_000):.1f} ns for a packet, {for_a_call:.0f} µs once for a call"


def show_curve(rows: list[Result], console: Console) -> None:
    """The second."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    table = _table("CPU µs for a packet, by number of calls", "calls", *names)
    for calls in sorted({row["calls"] for row in rows}):
        by_name = {row["name"]: row["us_per_packet"] for row in rows if row["calls"] == calls}
        table.add_row(str(calls), *(f"{by_name[name]:.2f}" for name in names))
    console.print(table)


def show_most(rows: list[Result], console: Console) -> None:
    """The third."""
    table = _table(
        "Calls borne with nothing lost", "", "threads", "cores", "calls", "CPU µs\n/packet", "load's\nCPU µs", "p99\nms"
    )
    for row in rows:
        table.add_row(
            row["name"], str(row["threads"]), str(row["cores"]), f"{row['calls']}{'+' if row['limited'] else ''}",
            f"{row['us_per_packet']:.2f}", f"{row['us_per_packet_of_load']:.2f}", f"{row['p99_ms']:.2f}",
        )  # fmt: skip
    console.print(table)
    if any(row["limited"] for row in rows):
        console.print("+: beyond that the load was late, not who was measured", highlight=False)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", no_wrap=True)
    return table


def draw(rows: list[Result], path: Path) -> None:
    """The curve as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120)
    for name in dict.fromkeys(row["name"] for row in rows):
        points = sorted((row["calls"], row["us_per_packet"]) for row in rows if row["name"] == name)
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axes.set(xlabel="calls at a time", ylabel="CPU µs for a forwarded packet", ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


# -- the whole -------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is asked for."""
    plan = Plan(Path(), options.calls, options.seconds)
    short = replace(plan, seconds=min(4.0, options.seconds))
    found: dict[str, Any] = {part: [] for part in PARTS}
    if "costs" in options.parts:
        found["costs"] = in_turn([ECHO, RELAY, AGENT, STEREO, PEER, PCAP], plan, options.runs)
    if "curve" in options.parts:
        found["curve"] = curve([RELAY, STEREO, PCAP], short, [50, 200, 500, 1000], options.runs)
    if "most" in options.parts:
        found["most"] = borne(short)
    return found


def borne(plan: Plan) -> list[Result]:
    """One core with the load on the other, then both cores with one thread and with two."""
    one, both = frozenset({0}), frozenset({0, 1})
    most = []
    for contestant, threads, cores in ((STEREO, 1, one), (PCAP, 1, one), (STEREO, 1, both), (STEREO, 2, both)):
        elsewhere = frozenset({1}) if cores == one else frozenset()
        pinned = replace(plan, threads=threads, cores=cores, load_cores=elsewhere)
        most.append(most_calls(contestant, pinned, 250, 3000) | {"cores": len(cores)})
    return most


def main(argv: list[str] | None = None) -> int:
    """Entry point; 2 when rtpengine or a compiler is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--calls", type=int, default=500, help="calls at a time, two legs each")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="the first table alone, one run of 3 seconds each")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--picture", type=Path, default=Path("artifacts/media_cost.png"), help="default: %(default)s")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="which of the three (default: all)")
    options = parser.parse_args(argv)
    for program, hint in (("rtpengine", "scripts/install_peers.sh"), (os.environ.get("CC", "cc"), "a C compiler")):
        if shutil.which(program) is None:
            print(f"bench_media: {program} is not installed: {hint}", file=sys.stderr)
            return 2
    if options.quick:
        options.seconds, options.runs, options.parts = 3.0, 1, ["costs"]
    found = run(options)
    if found["curve"]:
        draw(found["curve"], options.picture)
    if options.json:
        print(json.dumps(found))
        return 0
    console = Console()
    if found["costs"]:
        show_costs(found["costs"], options.calls, console)
        console.print(quality_cost(), highlight=False)
    if found["most"]:
        show_most(found["most"], console)
    if found["curve"]:
        show_curve(found["curve"], console)
        console.print(f"drawn: {options.picture}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
