"""The media engine: ports, sessions, capture modes and what the recorder is told, with a recorder made for the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from media.engine import (
    Address,
    CaptureMode,
    Codec,
    MediaEngine,
    MediaError,
    MediaSession,
    NoPortsLeft,
    Outcome,
    RecordingRequest,
    RecordingResult,
    SessionStats,
    Side,
)
from media.native import CaptureSource, NativeMediaEngine, NativeMediaSession, UnusableAddress
from media.ports import bind_pair
from tests.support.rtp_peer import RtpPeer, free_range, rtp, tone_packets, until

AGENT, PROSPECT = Side.AGENT, Side.PROSPECT
CODECS = {0: Codec("PCMU", 8000), 13: Codec("CN", 8000), 101: Codec("TELEPHONE-EVENT", 8000)}


class FakeRecording:
    def __init__(self, mode: CaptureMode, source: CaptureSource, start_ns: int) -> None:
        self.mode, self.source, self.start_ns = mode, source, start_ns
        self.told: list[tuple[Any, ...]] = []
        self.remaining: dict[Side, bytes] = {}
        self.finished: Future[RecordingResult] = Future()

    def set_codecs(self, side: Side, codecs: Mapping[int, Codec], at_ns: int) -> None:
        assert at_ns >= self.start_ns
        self.told.append(("codecs", side, sorted(codecs)))

    def narrow(self, mode: CaptureMode, reason: str, at_ns: int, remaining: Mapping[Side, bytes]) -> None:
        assert at_ns > self.start_ns
        self.told.append(("narrow", mode, reason, sorted(remaining)))
        self.remaining |= remaining

    def pause(self, at_ns: int, remaining: Mapping[Side, bytes], details: Mapping[str, object]) -> None:
        assert at_ns >= self.start_ns
        self.told.append(("pause", sorted(remaining), dict(details)))
        self.remaining |= remaining

    def resume(self, at_ns: int, details: Mapping[str, object]) -> None:
        assert at_ns > self.start_ns
        self.told.append(("resume", dict(details)))

    def mark(self, event: str, at_ns: int, details: Mapping[str, object]) -> None:
        assert at_ns > self.start_ns
        self.told.append(("mark", event, dict(details)))

    def finish(
        self, end_ns: int, termination: Mapping[str, Any], remaining: Mapping[Side, bytes], stats: SessionStats
    ) -> Future[RecordingResult]:
        assert end_ns > self.start_ns
        self.told.append(("finish", dict(termination), sorted(remaining), stats))
        self.remaining |= remaining
        self.finished.set_result(RecordingResult("call", "acme", Outcome.COMPLETE, self.mode))
        return self.finished


class FakeRecorder:
    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.recordings: list[FakeRecording] = []
        self.closed = False

    def start(
        self, request: RecordingRequest, mode: CaptureMode, source: CaptureSource, start_ns: int
    ) -> FakeRecording:
        if self.broken:
            raise RuntimeError("no writer")
        self.recordings.append(FakeRecording(mode, source, start_ns))
        return self.recordings[-1]

    def close(self, timeout: float) -> None:
        assert timeout >= 0
        self.closed = True


class Call:
    """A session with both far ends connected."""

    def __init__(self, engine: NativeMediaEngine, mode: CaptureMode) -> None:
        self.session = open_session(engine, mode)
        self.peers = {side: RtpPeer() for side in Side}
        for side, peer in self.peers.items():
            self.session.set_remote(side, peer.rtp)
            self.session.set_codecs(side, CODECS)

    def through(self, side: Side, packet: bytes) -> None:
        self.peers[side].send(packet, self.session.local(side))
        assert self.peers[side.other].receive() == (packet, self.session.local(side.other))

    def rings(self) -> list[bool]:
        return [self.session.relay.ring_memory(side) is not None for side in Side]


def open_session(engine: NativeMediaEngine, mode: CaptureMode = CaptureMode.NONE, host: str = "127.0.0.1") -> Any:
    return engine.open(
        agent_host=host, prospect_host="127.0.0.1", capture=mode, recording=RecordingRequest("acme", "call")
    )


@pytest.fixture
def recorder() -> FakeRecorder:
    return FakeRecorder()


@pytest.fixture
def engine(recorder: FakeRecorder) -> Iterator[NativeMediaEngine]:
    engine = NativeMediaEngine(recorder, port_range=(42000, 43999), coalesce_us=200)
    yield engine
    engine.close(1.0)


@pytest.fixture
def make_call(engine: NativeMediaEngine) -> Iterator[Callable[[CaptureMode], Call]]:
    calls: list[Call] = []

    def make(mode: CaptureMode) -> Call:
        calls.append(Call(engine, mode))
        return calls[-1]

    yield make
    for call in calls:
        for peer in call.peers.values():
            peer.close()


def test_is_the_protocol(engine: NativeMediaEngine) -> None:
    as_protocol: MediaEngine = engine
    session: MediaSession = as_protocol.open(
        agent_host="127.0.0.1", prospect_host="::1", capture=CaptureMode.BOTH, recording=RecordingRequest("a", "b")
    )
    assert session.mode is CaptureMode.BOTH
    assert session.local(AGENT).port % 2 == 0 and session.local(PROSPECT).host == "::1"
    assert session.stats().agent.far_end is None


@pytest.mark.parametrize("mode", list(CaptureMode))
def test_only_what_the_mode_allows_reaches_memory(
    mode: CaptureMode, make_call: Callable[[CaptureMode], Call], recorder: FakeRecorder
) -> None:
    call = make_call(mode)
    secrets = {side: os.urandom(160) for side in Side}
    assert call.rings() == [False, False]
    call.session.start_capture()
    call.session.start_capture()
    assert call.rings() == [mode.width >= 1, mode.width == 2]
    for number in range(5):
        for side in Side:
            call.through(side, rtp(secrets[side], sequence=number))
            call.through(side, rtp(b"\x01\x8a\0\xa0" * 4, payload_type=101))
    memory = b"".join(call.session.relay.ring_memory(side) or b"" for side in Side)
    assert [memory.count(secrets[side]) for side in Side] == [5 * (mode.width >= 1), 5 * (mode.width == 2)]
    assert b"\x01\x8a\0\xa0" not in memory
    [recording] = recorder.recordings
    assert recording.mode is mode and recording.told[:2] == [("codecs", side, [0, 13, 101]) for side in Side]
    stats = call.session.stats()
    assert (stats.agent.captured, stats.prospect.captured) == (5 * (mode.width >= 1), 5 * (mode.width == 2))


def test_tones_are_relayed_bit_exact(make_call: Callable[[CaptureMode], Call]) -> None:
    call = make_call(CaptureMode.BOTH)
    call.session.start_capture()
    for left, right in zip(tone_packets(440, 50), tone_packets(1000, 50, ssrc=2), strict=True):
        call.through(AGENT, left)
        call.through(PROSPECT, right)
    source = call.session.capture_source
    assert len(source.drain(AGENT)) == len(source.drain(PROSPECT)) == 50 * 184


def test_narrowing_hands_over_what_was_allowed_until_then(
    make_call: Callable[[CaptureMode], Call], recorder: FakeRecorder, engine: NativeMediaEngine
) -> None:
    call = make_call(CaptureMode.BOTH)
    call.session.start_capture()
    [recording] = recorder.recordings
    for side in Side:
        call.through(side, rtp(b"before"))
    call.session.narrow(CaptureMode.AGENT_ONLY, "policy changed")
    assert call.session.mode is CaptureMode.AGENT_ONLY and call.rings() == [True, False]
    for side in Side:
        call.through(side, rtp(b"after"))
    assert b"before" in recording.remaining[PROSPECT] and AGENT not in recording.remaining
    call.session.narrow(CaptureMode.NONE, "switched off")
    call.session.narrow(CaptureMode.NONE, "again")
    assert b"before" in recording.remaining[AGENT] and b"after" in recording.remaining[AGENT]
    assert call.rings() == [False, False] and engine.relay.rings_made == engine.relay.rings_freed == 2
    assert [told[1:] for told in recording.told if told[0] == "narrow"] == [
        (CaptureMode.AGENT_ONLY, "policy changed", [PROSPECT]),
        (CaptureMode.NONE, "switched off", [AGENT]),
    ]
    with pytest.raises(ValueError, match="widen"):
        call.session.narrow(CaptureMode.BOTH, "no")


def test_narrowing_before_the_start(make_call: Callable[[CaptureMode], Call], recorder: FakeRecorder) -> None:
    call = make_call(CaptureMode.BOTH)
    call.session.narrow(CaptureMode.AGENT_ONLY, "transfer")
    call.session.start_capture()
    assert recorder.recordings[0].mode is CaptureMode.AGENT_ONLY and call.rings() == [True, False]


def test_closing_hands_over_the_rest_and_is_idempotent(
    make_call: Callable[[CaptureMode], Call], recorder: FakeRecorder, engine: NativeMediaEngine
) -> None:
    call = make_call(CaptureMode.AGENT_ONLY)
    call.session.start_capture()
    call.session.mark("hold", by="agent")
    call.through(AGENT, rtp(b"the last words"))
    finished = call.session.close({"by": "agent"})
    assert call.session.close({"by": "someone else"}) is finished
    result = finished.result(0)
    assert result is not None and result.outcome is Outcome.COMPLETE
    [recording] = recorder.recordings
    mark, finish = recording.told[-2:]
    assert mark == ("mark", "hold", {"by": "agent"})
    assert finish[:3] == ("finish", {"by": "agent"}, [AGENT]) and finish[3].agent.received == 1
    assert b"the last words" in recording.remaining[AGENT]
    assert recording.source.drain(AGENT) == b"" and recording.source.stats().agent == finish[3].agent
    assert engine.live == 0
    call.session.start_capture()
    call.session.set_remote(AGENT, None)
    call.session.set_codecs(AGENT, CODECS)
    call.session.narrow(CaptureMode.NONE, "late")
    assert len(recorder.recordings) == 1 and recording.told[-1] is finish


def test_closing_without_capture(engine: NativeMediaEngine) -> None:
    assert open_session(engine, CaptureMode.BOTH).close({}).result(0) is None


def test_a_broken_recorder_leaves_the_call_alone_and_captures_nothing() -> None:
    engine = NativeMediaEngine(FakeRecorder(broken=True), port_range=(42000, 43999))
    call = Call(engine, CaptureMode.BOTH)
    call.session.start_capture()
    assert call.rings() == [False, False]
    call.session.mark("hold")
    call.through(AGENT, rtp(b"goes on"))
    assert call.session.close({}).result(0) is None
    for peer in call.peers.values():
        peer.close()
    engine.close(1.0)


@pytest.mark.parametrize(
    "address",
    [
        Address("example.org", 4000),
        Address("::1", 4000),
        Address("224.0.0.1", 4000),
        Address("255.255.255.255", 4000),
        Address("127.0.0.1", 0),
        Address("127.0.0.1", 70000),
    ],
)
def test_unusable_remote(address: Address, make_call: Callable[[CaptureMode], Call]) -> None:
    call = make_call(CaptureMode.NONE)
    for arguments in ((address,), (call.peers[AGENT].rtp, address)):
        with pytest.raises(UnusableAddress) as caught:
            call.session.set_remote(AGENT, *arguments)
        assert caught.value.sip_status == 488
    call.through(PROSPECT, rtp(b"as before"))


def test_a_session_cannot_be_pointed_at_itself(engine: NativeMediaEngine) -> None:
    session: NativeMediaSession = open_session(engine)
    for side in Side:
        for offset in (0, 1):
            own = session.local(side)
            with pytest.raises(UnusableAddress, match="own"):
                session.set_remote(side.other, Address(own.host, own.port + offset))


def test_the_unspecified_address_is_hold(make_call: Callable[[CaptureMode], Call]) -> None:
    call = make_call(CaptureMode.NONE)
    call.session.set_remote(PROSPECT, Address("0.0.0.0", 4000))
    call.peers[AGENT].send(rtp(b"unheard"), call.session.local(AGENT))
    call.through(PROSPECT, rtp(b"heard"))
    call.session.set_remote(PROSPECT, call.peers[PROSPECT].rtp)
    call.through(AGENT, rtp(b"heard again"))
    assert call.session.stats().agent.dropped_no_target == 1


def can_bind(port: int) -> bool:
    try:
        bind_pair("127.0.0.1", port).close()
    except OSError:
        return False
    return True


def test_ports_run_out_and_come_back() -> None:
    now = [0.0]
    lowest = free_range(4)
    engine = NativeMediaEngine(
        FakeRecorder(), port_range=(lowest, lowest + 7), quarantine_seconds=2.0, clock=lambda: now[0]
    )
    sessions = [open_session(engine) for _ in range(2)]
    with pytest.raises(NoPortsLeft):
        open_session(engine)
    sessions[0].close({})
    with pytest.raises(NoPortsLeft):
        open_session(engine)
    until(lambda: can_bind(lowest))  # the worker closes the sockets a moment later
    now[0] = 2.0
    again = open_session(engine)
    assert again.local(AGENT) == sessions[0].local(AGENT)
    engine.close(1.0)


def test_a_failed_second_leg_leaves_nothing_open(engine: NativeMediaEngine) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        with pytest.raises(MediaError, match=r"192\.0\.2\.1"):
            engine.open(
                agent_host="127.0.0.1",
                prospect_host="192.0.2.1",
                capture=CaptureMode.NONE,
                recording=RecordingRequest("acme", "call"),
            )
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_closing_the_engine_finishes_everything(engine: NativeMediaEngine, recorder: FakeRecorder) -> None:
    sessions = [open_session(engine, CaptureMode.BOTH) for _ in range(3)]
    for session in sessions:
        session.start_capture()
    engine.close(1.0)
    engine.close(1.0)
    assert recorder.closed and all(recording.finished.done() for recording in recorder.recordings)
    assert engine.relay.rings_made == engine.relay.rings_freed == 6
    with pytest.raises(MediaError, match="closed"):
        open_session(engine)


def test_a_paused_leg_has_no_ring_and_gets_it_again(engine: NativeMediaEngine, recorder: FakeRecorder) -> None:
    call = Call(engine, CaptureMode.BOTH)
    call.session.start_capture()
    for side in Side:
        call.through(side, rtp(b"before", sequence=1))
    call.session.pause(via="api", by="boss")
    call.session.pause(via="api", by="again")
    assert (call.rings(), call.session.captured, call.session.paused) == ([False, False], frozenset(), True)
    for side in Side:
        call.through(side, rtp(b"a card number", sequence=2, timestamp=160))
    assert [call.session.relay.drain(side) for side in Side] == [b"", b""]
    call.session.resume(via="api", by="boss")
    call.session.resume(via="api", by="again")
    assert (call.rings(), call.session.captured, call.session.paused) == ([True, True], frozenset(Side), False)
    for side in Side:
        call.through(side, rtp(b"after", sequence=3, timestamp=320))
    (recording,) = recorder.recordings
    assert b"before" in recording.remaining[AGENT]
    for side in Side:
        assert b"after" in recording.source.drain(side)
    told = [entry for entry in recording.told if entry[0] in ("pause", "resume")]
    assert told == [
        ("pause", [AGENT, PROSPECT], {"via": "api", "by": "boss"}),
        ("resume", {"via": "api", "by": "boss"}),
    ]
    call.session.close({})


def test_a_resume_brings_back_no_more_than_is_allowed(engine: NativeMediaEngine, recorder: FakeRecorder) -> None:
    call = Call(engine, CaptureMode.BOTH)
    call.session.start_capture()
    call.session.pause()
    call.session.narrow(CaptureMode.AGENT_ONLY, "policy")
    call.session.resume()
    assert call.rings() == [True, False]
    call.session.pause()
    call.session.narrow(CaptureMode.NONE, "policy")
    call.session.resume()
    assert call.rings() == [False, False]
    call.session.close({})
    call.session.resume()
    assert call.session.captured == frozenset()


def test_a_pause_before_the_answer(engine: NativeMediaEngine, recorder: FakeRecorder) -> None:
    call = Call(engine, CaptureMode.AGENT_ONLY)
    call.session.pause(via="keys")
    call.session.start_capture()
    assert call.rings() == [False, False]
    (recording,) = recorder.recordings
    assert ("pause", [], {"via": "keys"}) in recording.told
    call.session.resume()
    assert call.rings() == [True, False]
    call.session.close({})


def test_where_the_recorder_is_broken_a_resume_captures_nothing() -> None:
    engine = NativeMediaEngine(FakeRecorder(broken=True), port_range=(42000, 42099))
    call = Call(engine, CaptureMode.BOTH)
    call.session.start_capture()
    call.session.pause()
    call.session.resume()
    assert call.rings() == [False, False]
    engine.close(1)
