"""What a forwarded packet costs: the native media engine beside Debian's rtpengine, both recording every call.

Both get the same load from ``native/rtp_load.c`` (compiled on the fly): calls with two legs of 50 packets a second of
G.711, every packet forwarded and written to disk, by ours as stereo WAV, by rtpengine as pcap. Measured for each:
CPU time of its whole process per forwarded packet, one-way latency, loss, and the growth of resident memory per call.
Runs alternate; the table shows medians. Nothing is asserted here.

    python -m scripts.bench_media [--quick] [--calls N] [--seconds S] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from media.engine import Address, CaptureMode, Codec, RecordingRequest, Side
from media.native import NativeMediaEngine
from media.recorder import Recorder

HOST = "127.0.0.1"
SOURCE = Path(__file__).with_name("native") / "rtp_load.c"
Ports = list[tuple[int, int]]


class Load:
    """The load generator: compiled, started, and told the relay's ports."""

    def __init__(self, program: Path, calls: int, seconds: float) -> None:
        self._process = subprocess.Popen(
            [program, HOST, str(calls), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        _, agent, prospect = self._process.stdout.readline().split()
        self.far_ends = int(agent), int(prospect)
        self._limit = seconds + 20

    def run(self, ports: Ports) -> dict[str, float]:
        """Send; the generator's counts and latencies."""
        text, _ = self._process.communicate("".join(f"{a} {b}\n" for a, b in ports), timeout=self._limit)
        result: dict[str, float] = json.loads(text)
        return result

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def compile_load(directory: Path) -> Path:
    """The generator's program. Raises CalledProcessError when there is no C compiler to make it."""
    program = directory / "rtp_load"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, SOURCE], check=True)
    return program


def process_cost(pid: int) -> tuple[float, int]:
    """CPU seconds so far (user and system, all threads) and resident bytes of a process."""
    # The clock of /proc/PID/stat ticks at 100 Hz; schedstat of each thread is exact.
    nanoseconds = sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return nanoseconds / 1e9, pages * os.sysconf("SC_PAGE_SIZE")


def _serve_engine(pipe: Connection, root: Path, calls: int, record: bool) -> None:
    """A process with nothing in it but the media engine; obeys the pipe."""
    engine = NativeMediaEngine(Recorder(root), port_range=(20000, 29999), workers=1)
    far_ends = pipe.recv()
    sessions = []
    for number in range(calls):
        session = engine.open(
            agent_host=HOST,
            prospect_host=HOST,
            capture=CaptureMode.BOTH if record else CaptureMode.NONE,
            recording=RecordingRequest("bench", f"call-{number}"),
        )
        for side in Side:
            session.set_remote(side, Address(HOST, far_ends[side]))
            session.set_codecs(side, {0: Codec("PCMU", 8000)})
        if record:
            session.start_capture()
        sessions.append(session)
    pipe.send([(session.local(Side.AGENT).port, session.local(Side.PROSPECT).port) for session in sessions])
    pipe.recv()
    lost = sum(leg.ring_lost for s in sessions for leg in (s.stats().agent, s.stats().prospect))
    finished = [session.close({"reason": "bench over"}) for session in sessions]
    outcomes = [result.outcome.value for future in finished if (result := future.result(60)) is not None]
    pipe.send((lost, {word: outcomes.count(word) for word in set(outcomes)}))
    engine.close(30)


def measure_engine(program: Path, calls: int, seconds: float, record: bool, root: Path) -> dict[str, Any]:
    """One run of the native engine in a process of its own."""
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    process = context.Process(target=_serve_engine, args=(far, root, calls, record))
    process.start()
    load = Load(program, calls, seconds)
    try:
        assert process.pid is not None
        time.sleep(1)  # imports done: what follows is the cost of calls
        result = _measure(process.pid, calls, load, lambda: _through_pipe(pipe, load.far_ends))
        pipe.send("stop")
        result["ring_lost"], result["outcomes"] = pipe.recv()
        process.join(60)
        return result
    finally:
        load.kill()
        process.kill()


def _through_pipe(pipe: Connection, far_ends: tuple[int, int]) -> Ports:
    pipe.send(far_ends)
    ports: Ports = pipe.recv()
    return ports


def _measure(pid: int, calls: int, load: Load, set_up: Callable[[], Ports]) -> dict[str, Any]:
    _, empty = process_cost(pid)
    ports = set_up()
    before, _ = process_cost(pid)
    counted = load.run(ports)
    time.sleep(1.2)  # the writer's last step belongs to the packets, too
    after, full = process_cost(pid)
    return counted | {
        "us_per_packet": 1e6 * (after - before) / counted["received"],
        "lost": counted["sent"] - counted["received"],
        "kib_per_call": (full - empty) / calls / 1024,
    }


def bencode(value: Any) -> bytes:
    """The ng protocol's encoding: str, int, list and dict."""
    if isinstance(value, str):
        raw = value.encode()
        return b"%d:%s" % (len(raw), raw)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(k) + bencode(v) for k, v in sorted(value.items())) + b"e"


class RtpEngine:
    """Debian's rtpengine in userspace, recording pcap, controlled over its ng protocol."""

    def __init__(self, directory: Path, record: bool) -> None:
        self._record = record
        directory.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
            self._control = probe.getsockname()
        command = ["rtpengine", "--foreground", "--table=-1", f"--interface={HOST}", "--log-level=2", "--log-stderr"]
        command += [f"--listen-ng={HOST}:{self._control[1]}", "--port-min=30000", "--port-max=39999"]
        command += ["--recording-method=pcap", f"--recording-dir={directory}"] if record else []
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(0.5)
        self._cookie = 0
        self._wait()

    def _wait(self) -> None:
        for _ in range(40):
            with contextlib.suppress(OSError):
                if b"pong" in self.ask({"command": "ping"}):
                    return
            time.sleep(0.1)
        raise RuntimeError("rtpengine does not answer")

    def ask(self, command: dict[str, Any]) -> bytes:
        """Send a command; its raw answer."""
        self._cookie += 1
        cookie = b"c%d" % self._cookie
        self._socket.sendto(cookie + b" " + bencode(command), self._control)
        while not (answer := self._socket.recv(65536)).startswith(cookie + b" "):
            pass
        return answer

    def call(self, number: int, far_ends: tuple[int, int]) -> tuple[int, int]:
        """Offer and answer; the relay's ports (agent's, prospect's)."""
        about: dict[str, Any] = {"call-id": f"bench-{number}", "from-tag": "a", "ICE": "remove"}
        if self._record:
            about["record call"] = "on"
        offered = self.ask(about | {"command": "offer", "sdp": _sdp(far_ends[0])})
        answered = self.ask(about | {"command": "answer", "to-tag": "b", "sdp": _sdp(far_ends[1])})
        return _port(answered), _port(offered)

    def close(self) -> None:
        self._socket.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _sdp(port: int) -> str:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )


def _port(answer: bytes) -> int:
    start = answer.find(b"m=audio ")
    if start < 0:
        raise RuntimeError(f"rtpengine answered {answer[:300]!r}")
    return int(answer[start:].split()[1])


def measure_rtpengine(program: Path, calls: int, seconds: float, record: bool, root: Path) -> dict[str, Any]:
    """One run of rtpengine."""
    peer = RtpEngine(root, record)
    load = Load(program, calls, seconds)
    try:
        result = _measure(
            peer.process.pid, calls, load, lambda: [peer.call(number, load.far_ends) for number in range(calls)]
        )
        files = list(root.rglob("*.pcap"))
        result["outcomes"] = {"pcap files": len(files)} if record else {}
        return result
    finally:
        load.kill()
        peer.close()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-media-") as name:
        yield Path(name)


def run(calls: int = 300, seconds: float = 10.0, runs: int = 3) -> list[dict[str, Any]]:
    """The medians of ``runs`` alternating runs, a row for each contestant; ``ratio`` is ours to rtpengine's cost.

    Without rtpengine on this machine only the native engine is measured.
    """
    contestants: list[tuple[str, Callable[..., dict[str, Any]], bool]] = [("ours, stereo WAV", measure_engine, True)]
    if shutil.which("rtpengine"):
        contestants.append(("rtpengine, pcap", measure_rtpengine, True))
    contestants.append(("ours, relay alone", measure_engine, False))
    if shutil.which("rtpengine"):
        contestants.append(("rtpengine, alone", measure_rtpengine, False))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in contestants}
    for _ in range(runs):
        for name, measure, record in contestants:
            with _scratch() as directory:
                program = compile_load(directory)
                results[name].append(measure(program, calls, seconds, record, directory / "recordings"))
    rows = [_median(name, found) for name, found in results.items()]
    for row in rows:
        peer = next((r for r in rows if r["name"] == PEERS.get(row["name"])), None)
        row["ratio"] = row["us_per_packet"] / peer["us_per_packet"] if peer else None
    return rows


PEERS = {"ours, stereo WAV": "rtpengine, pcap", "ours, relay alone": "rtpengine, alone"}


def _median(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = [key for key, value in found[0].items() if isinstance(value, int | float)]
    row: dict[str, Any] = {key: statistics.median(result[key] for result in found) for key in numbers}
    row |= {"name": name, "runs": len(found), "outcomes": found[-1]["outcomes"]}
    row["lost"] = max(result["lost"] for result in found)
    return row


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The table."""
    packets = f"{rows[0]['sent'] / rows[0]['seconds'] / 1000:.0f}k packets/s, medians of {rows[0]['runs']}"
    table = Table(title=f"RTP forwarding, {packets}", box=box.SIMPLE_HEAD, pad_edge=False)
    heads = (
        "",
        "CPU µs\n/packet",
        "of rtp-\nengine",
        "p50\nms",
        "p99\nms",
        "max\nms",
        "lost",
        "KiB/\ncall",
    )
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['us_per_packet']:.2f}",
            f"{row['ratio']:.2f}×" if row["ratio"] else "",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['max_ms']:.2f}",
            f"{row['lost']:.0f}",
            f"{row['kib_per_call']:.0f}",
        )
    console.print(table)
    for row in rows:
        for word, count in row["outcomes"].items():
            console.print(f"{row['name']}: {count} {word}", highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Entry point; 2 when rtpengine or a compiler is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--calls", type=int, default=300, help="calls at a time, two legs each")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="one run of 3 seconds each")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    options = parser.parse_args(argv)
    for program, hint in (("rtpengine", "scripts/install_peers.sh"), (os.environ.get("CC", "cc"), "a C compiler")):
        if shutil.which(program) is None:
            print(f"bench_media: {program} is not installed: {hint}", file=sys.stderr)
            return 2
    rows = run(options.calls, 3.0 if options.quick else options.seconds, 1 if options.quick else options.runs)
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        show(rows, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
