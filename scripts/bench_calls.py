"""What a bridged call costs: CPU milliseconds per call, beside sippy's ``b2bua_simple`` in the same run.

SIPp calls and SIPp answers, over UDP on loopback. Runs alternate: ours with decision and recording switched off, sippy
(``nworkers = 1``), ours with both on; each in a fresh process, warmed up first. CPU is that of all its threads. The
table shows medians. Nothing is asserted here.

    python -m scripts.bench_calls [--quick] [--calls N] [--rate N] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HOST = "127.0.0.1"
NUMBER = "+12125550123"
TARGET = 0.60
WARM_UP = 100
TALK_MILLISECONDS = "200"
OURS, SIPPY, RECORDING = "twoparty, signalling alone", "sippy b2bua_simple", "twoparty, decided and recorded"

SIPPY_MAIN = """
from sippy.Udp_server import Udp_server_opts
made = Udp_server_opts.__init__
def one_worker(self, *a, **k):
    made(self, *a, **k)
    self.nworkers = 1
Udp_server_opts.__init__ = one_worker
from sippy.b2bua_simple import main_func
main_func()
"""
SETTINGS = """
[sip]
listen = ["udp:{host}:{port}"]
[recording]
enabled = {recording}
root = "{directory}/recordings"
[web]
listen = ""
[store]
url = "sqlite:///{directory}/bench.db"
[telemetry]
log_level = "warning"
[[trunks]]
name = "callee"
host = "{host}"
port = {callee}
[[peers]]
name = "caller"
networks = ["127.0.0.0/8"]
organization = "bench"
user = "agent"
"""


@dataclass(frozen=True)
class Run:
    """One measured run."""

    milliseconds: float
    """CPU per call."""
    failed: int
    megabytes: float
    """Resident memory of the gateway at the end."""


class BenchError(Exception):
    """Something that the benchmark needs did not come about."""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Until a UDP port is bound. Raises BenchError."""
    deadline = time.monotonic() + seconds
    while f":{port:04X} " not in Path("/proc/net/udp").read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"{process.args!r} does not listen on port {port}")
        time.sleep(0.05)


@contextlib.contextmanager
def running(command: list[str], directory: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, its output in a file, ended with SIGTERM and at last SIGKILL."""
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gateway(kind: str, directory: Path, port: int, callee: int) -> Iterator[subprocess.Popen[bytes]]:
    """The back-to-back user agent that is measured."""
    if kind == SIPPY:
        command = [sys.executable, "-c", SIPPY_MAIN, "-f", "-l", HOST, "-p", str(port), "-n", f"{HOST}:{callee}"]
        os.environ["SIPLOG_BEND"] = "none"
    else:
        recording = str(kind == RECORDING).lower()
        settings = directory / "bench.toml"
        settings.write_text(
            SETTINGS.format(host=HOST, port=port, callee=callee, directory=directory, recording=recording)
        )
        twoparty = [sys.executable, "-m", "gateway.cli"]
        user = ["user", "add", "agent", "--organization", "bench", "--create-organization", "--country", "US",
                "--state", "TX", "--password-stdin", "--config", str(settings)]  # fmt: skip
        subprocess.run([*twoparty, *user], input=b"secret\n", check=True, stdout=subprocess.DEVNULL)
        command = [*twoparty, "serve", "--config", str(settings)]
    with running(command, directory, "gateway") as process:
        wait_for_port(port, process)
        yield process


def cost(pid: int) -> tuple[float, float]:
    """CPU milliseconds so far (user and system), and resident megabytes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return ticks * 1000 / os.sysconf("SC_CLK_TCK"), resident / 1e6


def call(directory: Path, port: int, callee: int, calls: int, rate: int) -> int:
    """Place ``calls`` calls; gives how many failed."""
    common = ["-i", HOST, "-m", str(calls), "-nostdin", "-timeout", str(calls // rate + 40), "-timeout_error"]
    answer = ["sipp", "-sn", "uas", "-p", str(callee), *common]
    statistics_file = directory / f"calls-{calls}.csv"
    place = ["sipp", "-sn", "uac", f"{HOST}:{port}", "-s", NUMBER, "-p", str(free_port()), "-r", str(rate),
             "-d", TALK_MILLISECONDS, "-trace_stat", "-stf", str(statistics_file), "-fd", "1", *common]  # fmt: skip
    with running(answer, directory, "uas") as far:
        wait_for_port(callee, far)
        with (directory / "uac.log").open("wb") as log:
            subprocess.run(place, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    with statistics_file.open(encoding="latin-1") as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    return int(last["FailedCall(C)"]) + calls - int(last["TotalCallCreated"])


def measure(kind: str, calls: int, rate: int) -> Run:
    """One run in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-calls-") as name:
        directory, port, callee = Path(name), free_port(), free_port()
        with gateway(kind, directory, port, callee) as process:
            call(directory, port, callee, WARM_UP, rate)
            before, _ = cost(process.pid)
            failed = call(directory, port, callee, calls, rate)
            time.sleep(1)  # what is written after the call counts too
            after, megabytes = cost(process.pid)
    return Run((after - before) / calls, failed, megabytes)


def table(runs: dict[str, list[Run]], calls: int, rate: int) -> Table:
    """Medians, and each as a share of sippy's."""
    peer = statistics.median(run.milliseconds for run in runs[SIPPY])
    rounds = len(runs[SIPPY])
    shown = Table(title=f"A bridged call, SIPp both ends: medians of {rounds} runs of {calls} calls at {rate}/s")
    for heading in ("", "CPU ms\nper call", f"of sippy's\n(target {TARGET})", "failed\ncalls", "memory\nMB"):
        shown.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for kind, found in runs.items():
        milliseconds = statistics.median(run.milliseconds for run in found)
        shown.add_row(
            kind,
            f"{milliseconds:.2f}",
            f"{milliseconds / peer:.2f}x",
            str(sum(run.failed for run in found)),
            f"{statistics.median(run.megabytes for run in found):.0f}",
        )
    return shown


def missing() -> str:
    """What has to be installed first, "" when nothing."""
    if shutil.which("sipp") is None:
        return "sipp is not installed: scripts/install_peers.sh"
    if importlib.util.find_spec("sippy") is None:
        return "sippy is not installed: scripts/install.sh bench"
    return ""


def main(argv: list[str] | None = None) -> int:
    """Entry point; 2 when a peer is missing or does not start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=100, help="calls per second")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of 300 calls each")
    parser.add_argument("--json", action="store_true", help="the medians as one JSON object")
    options = parser.parse_args(argv)
    if text := missing():
        print(f"bench_calls: {text}", file=sys.stderr)
        return 2
    calls, rounds = (300, 1) if options.quick else (options.calls, options.runs)
    runs: dict[str, list[Run]] = {OURS: [], SIPPY: [], RECORDING: []}
    try:
        for _ in range(rounds):
            for kind, found in runs.items():
                found.append(measure(kind, calls, options.rate))
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"bench_calls: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({kind: statistics.median(run.milliseconds for run in found) for kind, found in runs.items()}))
    else:
        Console().print(table(runs, calls, options.rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
