"""Whom the media benchmark measures: our media engine, Debian's rtpengine, and a loop that does nothing but relay.

All get the same load from ``native/rtp_load.c``: calls with two legs of 50 packets a second of G.711, each packet
verified byte for byte when it comes back. Measured is the CPU time of the whole process (relay and writer threads, in
the kernel, too) while the load is steady: calls and files are open, and nobody has fallen silent yet.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from media.engine import Address, CaptureMode, Codec, MediaSession, RecordingRequest, Side
from media.native import NativeMediaEngine
from media.recorder import Recorder

HOST = "127.0.0.1"
PACKETS_PER_SECOND = 50
"""From each leg."""
NATIVE = Path(__file__).with_name("native")
Ports = list[tuple[int, int]]
Result = dict[str, Any]


def compile_native(directory: Path, name: str) -> Path:
    """A program of ``native``. Raises CalledProcessError when there is no C compiler to make it."""
    program = directory / name
    if not program.exists():
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, NATIVE / f"{name}.c"], check=True)
    return program


@dataclass(frozen=True)
class Plan:
    """One run: how many calls, how long, and (where it matters) on which cores who runs."""

    directory: Path
    calls: int
    seconds: float
    capture: CaptureMode = CaptureMode.NONE
    threads: int = 1
    cores: frozenset[int] = frozenset()
    """Of whom is measured; empty: any."""
    load_cores: frozenset[int] = frozenset()


def _pin(pid: int, cores: frozenset[int]) -> None:
    """Every thread of a process that is there now; those it makes follow their maker."""
    for task in Path(f"/proc/{pid}/task").iterdir() if cores else ():
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(task.name), cores)


class Load:
    """The load generator: compiled, started, and told the relay's ports."""

    def __init__(self, plan: Plan) -> None:
        command: list[str | Path] = [
            compile_native(plan.directory, "rtp_load"),
            HOST,
            str(plan.calls),
            str(plan.seconds),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        _, agent, prospect = self._process.stdout.readline().split()
        self.far_ends = int(agent), int(prospect)
        self._plan = plan
        self._limit = plan.seconds + 20
        _pin(self._process.pid, plan.load_cores)

    def run(self, ports: Ports, cost: Callable[[], float] | None = None) -> dict[str, float]:
        """Send; the generator's counts and latencies. With ``cost``, a process's CPU seconds so far, also its
        ``us_per_packet`` while the load is steady: from two seconds after its beginning to just before its end."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{a} {b}\n" for a, b in ports))
        self._process.stdin.flush()
        steady = self._sample(cost) if cost is not None else {}
        text, _ = self._process.communicate(timeout=self._limit)
        result: dict[str, float] = json.loads(text)
        return result | steady

    def _sample(self, cost: Callable[[], float]) -> dict[str, float]:
        lead = min(2.0, self._plan.seconds / 3)
        time.sleep(lead)
        began, before = time.monotonic(), cost()
        time.sleep(self._plan.seconds - lead - 0.5)
        packets = (time.monotonic() - began) * self._plan.calls * 2 * PACKETS_PER_SECOND
        return {"us_per_packet": 1e6 * (cost() - before) / packets}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def process_cost(pid: int) -> tuple[float, int]:
    """CPU seconds so far (user and system, all threads) and resident bytes of a process."""
    # The clock of /proc/PID/stat ticks at 100 Hz; schedstat of each thread is exact.
    nanoseconds = sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return nanoseconds / 1e9, pages * os.sysconf("SC_PAGE_SIZE")


def _serve_engine(pipe: Connection, plan: Plan) -> None:
    """A process with nothing in it but the media engine; obeys the pipe."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    recorder = Recorder(plan.directory, writers=plan.threads)
    engine = NativeMediaEngine(recorder, port_range=(20000, 40000), workers=plan.threads)
    far_ends = pipe.recv()
    sessions = [_open_session(engine, plan, number, far_ends) for number in range(plan.calls)]
    while len(list(plan.directory.rglob("*.wav.part"))) < (plan.calls if plan.capture.width else 0):
        time.sleep(0.05)
    pipe.send([(session.local(Side.AGENT).port, session.local(Side.PROSPECT).port) for session in sessions])
    pipe.recv()
    lost = sum(leg.ring_lost for s in sessions for leg in (s.stats().agent, s.stats().prospect))
    finished = [session.close({"reason": "bench over"}) for session in sessions]
    results = [result for future in finished if (result := future.result(60)) is not None]
    outcomes = [result.outcome.value for result in results]
    size = sum(result.size_bytes for result in results)
    pipe.send((engine.relay.backend, lost, {word: outcomes.count(word) for word in sorted(set(outcomes))}, size))
    engine.close(30)


def _open_session(engine: NativeMediaEngine, plan: Plan, number: int, far_ends: tuple[int, int]) -> MediaSession:
    session = engine.open(
        agent_host=HOST,
        prospect_host=HOST,
        capture=plan.capture,
        recording=RecordingRequest("bench", f"call-{number}"),
    )
    for side in Side:
        session.set_remote(side, Address(HOST, far_ends[side]))
        session.set_codecs(side, {0: Codec("PCMU", 8000)})
    if plan.capture.width:
        session.start_capture()
    return session


def measure_engine(plan: Plan) -> Result:
    """One run of the native engine in a process of its own."""
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    process = context.Process(target=_serve_engine, args=(far, plan))
    process.start()
    load = Load(plan)
    try:
        assert process.pid is not None
        _wait_until_idle(process.pid)
        _pin(process.pid, plan.cores)
        result = _measure(process.pid, plan, load, lambda: _through_pipe(pipe, load.far_ends))
        pipe.send("stop")
        result["backend"], result["ring_lost"], result["outcomes"], size = pipe.recv()
        result["file_bytes_per_call_second"] = size / plan.calls / result["seconds"] if size else 0
        process.join(60)
        return result
    finally:
        load.kill()
        process.kill()


def _wait_until_idle(pid: int) -> None:
    """Imports are done: what follows is the cost of calls."""
    before = -1.0
    while (now := process_cost(pid)[0]) != before:
        before = now
        time.sleep(0.3)


def _through_pipe(pipe: Connection, far_ends: tuple[int, int]) -> Ports:
    pipe.send(far_ends)
    ports: Ports = pipe.recv()
    return ports


def _measure(pid: int, plan: Plan, load: Load, set_up: Callable[[], Ports]) -> Result:
    _, empty = process_cost(pid)
    counted = load.run(set_up(), lambda: process_cost(pid)[0])
    _, full = process_cost(pid)
    return counted | {
        "us_per_packet_of_load": 1e6 * counted["cpu_seconds"] / max(1, counted["received"]),
        "lost": counted["sent"] - counted["received"],
        "kib_per_call": (full - empty) / plan.calls / 1024,
    }


def measure_echo(plan: Plan) -> Result:
    """One run of the loop that does nothing but relay."""
    load = Load(plan)
    command: list[str | Path] = [
        compile_native(plan.directory, "rtp_echo"),
        HOST,
        str(plan.calls),
        *map(str, load.far_ends),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        pairs = [process.stdout.readline().split() for _ in range(plan.calls)]
        _pin(process.pid, plan.cores)
        return _measure(process.pid, plan, load, lambda: [(int(a), int(b)) for a, b in pairs])
    finally:
        load.kill()
        process.kill()
        process.wait()
        process.stdout.close()


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

    def __init__(self, directory: Path, record: bool, threads: int) -> None:
        self._record = record
        directory.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
            self._control = probe.getsockname()
        command = ["rtpengine", "--foreground", "--table=-1", f"--interface={HOST}", "--log-level=2", "--log-stderr"]
        command += [f"--listen-ng={HOST}:{self._control[1]}", "--port-min=20000", "--port-max=40000"]
        command += [f"--num-threads={threads}"]
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


def measure_rtpengine(plan: Plan) -> Result:
    """One run of rtpengine, recording where ``plan.capture`` is not none."""
    recordings = plan.directory / "recordings"
    peer = RtpEngine(recordings, plan.capture.width > 0, plan.threads)
    load = Load(plan)
    try:
        _pin(peer.process.pid, plan.cores)
        result = _measure(
            peer.process.pid, plan, load, lambda: [peer.call(number, load.far_ends) for number in range(plan.calls)]
        )
        files = list(recordings.rglob("*.pcap"))
        result["outcomes"] = {"pcap files": len(files)} if files else {}
        size = sum(file.stat().st_size for file in files)
        result["file_bytes_per_call_second"] = size / plan.calls / result["seconds"]
        return result
    finally:
        load.kill()
        peer.close()
