"""Calls opened and closed at 500 a second under traffic: no descriptor, port, ring or byte is left over."""

from __future__ import annotations

import gc
import os
import random
import socket
import threading
import time
from pathlib import Path

import pytest

from media.engine import Address, CaptureMode, Codec, RecordingRequest, Side
from media.native import CaptureSource, NativeMediaEngine, NativeMediaSession
from media.relay import Relay
from tests.media.test_native import FakeRecorder, FakeRecording
from tests.support.rtp_peer import rtp, until

RATE, SECONDS, LIVE = 500, 60.0, 100
BACKENDS = ["epoll"] if Relay(1).backend == "epoll" else ["epoll", "io_uring"]


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Traffic:
    """A far end for every leg: sends to ports of live calls, without rest, from another thread."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._socket.getsockname()[1])
        self.ports: list[int] = []
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        packet = rtp(b"\xff" * 160)
        while not self._stop.wait(0.002):
            for port in self.ports[-2 * LIVE :: 5]:
                self._socket.sendto(packet, ("127.0.0.1", port))
                self.sent += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


def open_call(engine: NativeMediaEngine, number: int, far_end: Address) -> NativeMediaSession:
    mode = (CaptureMode.BOTH, CaptureMode.AGENT_ONLY, CaptureMode.NONE)[number % 3]
    session = engine.open(
        agent_host="127.0.0.1", prospect_host="127.0.0.1", capture=mode, recording=RecordingRequest("acme", str(number))
    )
    for side in Side:
        session.set_remote(side, far_end)
        session.set_codecs(side, {0: Codec("PCMU", 8000)})
    session.start_capture()
    return session


class ForgetfulRecorder(FakeRecorder):
    """Keeps no recording: what grows is the engine's."""

    def start(
        self, request: RecordingRequest, mode: CaptureMode, source: CaptureSource, start_ns: int
    ) -> FakeRecording:
        return FakeRecording(mode, source, start_ns)


class Churn:
    """Opens and closes in a steady rhythm."""

    def __init__(self, engine: NativeMediaEngine, traffic: Traffic, seed: int) -> None:
        self.engine, self.traffic = engine, traffic
        self.live: list[NativeMediaSession] = []
        self.opened = 0
        self._dice = random.Random(seed)

    def run(self, seconds: float) -> None:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * RATE)
            while self.opened < due:
                self._one()
            time.sleep(0.002)  # the rhythm of what is measured, not a wait for anything
        self.opened = 0

    def _one(self) -> None:
        session = open_call(self.engine, self.opened, self.traffic.address)
        self.opened += 1
        self.live.append(session)
        self.traffic.ports += [session.local(side).port for side in Side]
        if len(self.live) > LIVE:
            session = self.live.pop(self._dice.randrange(len(self.live)))
            if self._dice.random() < 0.3:
                session.set_remote(Side.AGENT, Address("127.0.0.1", 9))
            session.close({})

    def close(self) -> None:
        for session in self.live:
            session.close({})
        self.live.clear()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_left_over(backend: str) -> None:
    engine = NativeMediaEngine(
        ForgetfulRecorder(),
        port_range=(10000, 17999),
        quarantine_seconds=1.0,
        workers=2,
        backend=backend,
        ring_bytes=16384,
    )
    gc.collect()
    before = open_fds()
    traffic = Traffic()
    churn = Churn(engine, traffic, seed=1)
    try:
        churn.run(2.0)
        settled = resident_bytes()
        churn.run(SECONDS / len(BACKENDS))
        churn.close()
        traffic.ports.clear()
        until(lambda: open_fds() <= before + 1)  # the traffic's own socket
        gc.collect()
        grown = resident_bytes() - settled
    finally:
        traffic.stop()
        churn.close()
    assert traffic.sent > 1000
    assert engine.live == 0 and engine.relay.rings_made == engine.relay.rings_freed > 1000
    assert sum(worker["sessions"] for worker in engine.relay.stats()) == 0
    assert grown < 24 * 1024 * 1024  # 15,000 calls of a few KiB each would be more
    engine.close(5)
    assert open_fds() <= before
