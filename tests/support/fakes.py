"""Stand-ins for what call logic is driven against: a store in memory, a media engine without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from gateway.store.records import Agent, SipCredential
from media.announcement import Announcement
from media.engine import (
    Address,
    CaptureMode,
    Codec,
    LegStats,
    MediaError,
    RecordingRequest,
    RecordingResult,
    SessionStats,
    Side,
)
from media.keys import PressedKey
from media.quality import LegQuality, SessionQuality, StreamQuality


class FakeMediaSession:
    """Notes what it is told. ``log`` has every call in order."""

    def __init__(self, hosts: tuple[str, str], ports: tuple[int, int], mode: CaptureMode, request: RecordingRequest):
        self._local = {Side(i): Address(hosts[i], ports[i]) for i in (0, 1)}
        self._mode = mode
        self.request = request
        self.remotes: dict[Side, Address | None] = {}
        self.codecs: dict[Side, Mapping[int, Codec]] = {}
        self.capturing: CaptureMode | None = None
        self.paused = False
        self.playing: list[Future[int]] = []
        self.closed: Mapping[str, Any] | None = None
        self.log: list[tuple[Any, ...]] = []
        self.counts = {Side.AGENT: 0, Side.PROSPECT: 0}

    @property
    def mode(self) -> CaptureMode:
        return self._mode

    @property
    def captured(self) -> frozenset[Side]:
        return frozenset()

    def local(self, side: Side) -> Address:
        return self._local[side]

    def set_remote(self, side: Side, rtp: Address | None, rtcp: Address | None = None) -> None:
        self.remotes[side] = rtp
        self.log.append(("remote", side, rtp))

    def set_codecs(self, side: Side, codecs: Mapping[int, Codec]) -> None:
        self.codecs[side] = dict(codecs)

    def start_capture(self) -> None:
        self.capturing = self._mode
        self.log.append(("capture", self._mode))

    def narrow(self, mode: CaptureMode, reason: str) -> None:
        if mode.width > self._mode.width:
            raise ValueError("wider")
        self._mode = mode
        self.log.append(("narrow", mode))

    def admit_prospect(self, decision: Mapping[str, Any], **details: object) -> None:
        if self._mode is not CaptureMode.AGENT_ONLY:
            raise ValueError("not agent_only")
        self._mode = CaptureMode.BOTH
        self.log.append(("admit", details))

    def pause(self, **details: object) -> None:
        self.paused = True
        self.log.append(("pause", details))

    def resume(self, **details: object) -> None:
        self.paused = False
        self.log.append(("resume", details))

    def mark(self, event: str, **details: object) -> None:
        self.log.append(("mark", event, details))

    def hold_apart(self, side: Side, apart: bool) -> None:
        self.log.append(("apart", side, apart))

    def play(self, side: Side, announcement: Announcement, codecs: Mapping[int, Codec]) -> Future[int] | None:
        self.log.append(("play", side, announcement.name, dict(codecs)))
        self.playing.append(Future())
        return self.playing[-1]

    def stop_playing(self) -> None:
        self.log.append(("stop playing",))

    def listen(self, on_key: Callable[[Side, PressedKey], None]) -> None:
        self.on_key = on_key

    def stats(self) -> SessionStats:
        return SessionStats(LegStats(received=self.counts[Side.AGENT]), LegStats(received=self.counts[Side.PROSPECT]))

    def quality(self) -> SessionQuality:
        nothing = LegQuality(StreamQuality(0, 0, 0.0, None, None, None, None), None, None, None)
        return SessionQuality(nothing, nothing)

    def close(self, termination: Mapping[str, Any]) -> Future[RecordingResult | None]:
        self.closed = termination
        future: Future[RecordingResult | None] = Future()
        future.set_result(None)
        return future


class FakeMedia:
    """Opens sessions on made-up ports; ``fail`` is raised instead when it is set."""

    def __init__(self) -> None:
        self.sessions: list[FakeMediaSession] = []
        self.fail: MediaError | None = None
        self.keys_fd = -1
        self._port = 30000

    def open(
        self, *, agent_host: str, prospect_host: str, capture: CaptureMode, recording: RecordingRequest
    ) -> FakeMediaSession:
        if self.fail is not None:
            raise self.fail
        ports = self._port, self._port + 2
        self._port += 4
        session = FakeMediaSession((agent_host, prospect_host), ports, capture, recording)
        self.sessions.append(session)
        return session

    def deliver_keys(self) -> None:
        return

    def close(self, timeout: float) -> None:
        return


@dataclass
class FakeDirectory:
    """Agents, credentials and states in dictionaries."""

    agents: dict[str, Agent] = field(default_factory=dict)
    credentials: dict[str, SipCredential] = field(default_factory=dict)
    dids: dict[str, str] = field(default_factory=dict)
    states: dict[tuple[str, str], str] = field(default_factory=dict)

    async def credential(self, username: str) -> SipCredential | None:
        return self.credentials.get(username)

    async def agent(self, username: str) -> Agent | None:
        return self.agents.get(username)

    async def agent_by_did(self, number: str) -> Agent | None:
        return self.agents.get(self.dids.get(number, ""))

    async def prospect_state(self, organization: str, number: str) -> str | None:
        return self.states.get((organization, number))


class FakeJournal:
    """Keeps the records; ``fail`` makes the decision's future fail."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.fail: Exception | None = None

    def _done(self, record: Any) -> asyncio.Future[None]:
        self.records.append(record)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    call_started = call_ended = recording_stored = _done

    def decision_made(self, record: Any) -> asyncio.Future[None]:
        future = self._done(record)
        if self.fail is None:
            return future
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(self.fail)
        failed.exception()
        return failed


class FakeStore:
    def __init__(self) -> None:
        self.directory = FakeDirectory()
        self.journal = FakeJournal()
