"""One TCP or TLS connection (RFC 3261 §18): framing, keep-alives, and the clock that cuts the slow."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from gateway.guard.pace import Pace, StreamLimits
from gateway.sip.errors import ParseError
from gateway.sip.flow import Flow
from gateway.sip.framing import PONG, Framer
from gateway.transport.tls import certificate_names

_QUEUE_BYTES = 1024 * 1024
_HIGH_WATER = 64 * 1024


class ConnectionOwner(Protocol):
    """What a connection needs from its endpoint."""

    limits: StreamLimits
    max_message: int

    def flow_to(self, host: str, port: int) -> Flow: ...
    def received(self, data: bytes, flow: Flow) -> bool: ...
    def drained(self) -> None: ...
    def known(self, flow: Flow) -> bool: ...
    def adopt(self, connection: Connection) -> None: ...
    def discard(self, connection: Connection) -> None: ...
    def closed_for(self, reason: str) -> None: ...


class Connection(asyncio.Protocol):
    """What is sent before the connection is up waits in ``_waiting``."""

    def __init__(self, owner: ConnectionOwner, key: tuple[str, int], *, accepted: bool) -> None:
        """``key``: the far side's host and port."""
        self._owner = owner
        self._framer = Framer(owner.max_message)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._queued = 0
        self._pace: Pace | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.key = key
        self.accepted = accepted
        self.met = False
        """It has been up at some time."""
        self.names: frozenset[str] = frozenset()
        """Whom the far side's verified certificate names; empty without one."""

    @property
    def up(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def gone(self) -> bool:
        """It was up, and can't be used any more."""
        return self.met and not self.up

    # -- asyncio's side ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's over TLS is one, but does not inherit
        self._transport, self.met = transport, True
        self._loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._pace = Pace(self._owner.limits, self._loop.time())
        self.names = certificate_names(transport.get_extra_info("peercert"))
        self._owner.adopt(self)
        for data in self._waiting:
            transport.write(data)
        self._waiting.clear()
        self._watch()

    def data_received(self, data: bytes) -> None:
        assert self._pace is not None and self._loop is not None
        try:
            frames = self._framer.feed(data)
        except ParseError:
            self.abort("not to be followed")
            return
        self._pace.received(self._loop.time(), whole=bool(frames), rest=self._framer.partial)
        if self._framer.partial:
            self._watch()
        flow = self._owner.flow_to(*self.key)
        for frame in frames:
            if not self._owner.received(frame, flow):
                self.abort(
                    "not taken"
                )  # no SIP, and where the next message starts can't be known; or from somebody banned
                break
        if self._framer.pings:
            self._framer.pings = 0
            self.send(PONG)
        self._owner.drained()

    def pause_writing(self) -> None:
        if self._pace is not None and self._loop is not None:
            self._pace.blocked(self._loop.time())
            self._watch()

    def resume_writing(self) -> None:
        if self._pace is not None:
            self._pace.unblocked()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        self._owner.discard(self)

    # -- the endpoint's side -----------------------------------------------------------------------------------------

    def send(self, data: bytes) -> bool:
        """Queue bytes; False when the far side has stopped reading and too much is waiting."""
        if self.gone:
            return False
        if self._transport is None:
            self._waiting.append(data)
            self._queued += len(data)
            return self._queued <= _QUEUE_BYTES
        if self._transport.get_write_buffer_size() > _QUEUE_BYTES:
            self.abort("slow to read")
            return False
        self._transport.write(data)
        return True

    def abort(self, reason: str) -> None:
        """Cut it off; ``reason`` is counted."""
        if self._transport is not None and not self._transport.is_closing():
            self._owner.closed_for(reason)
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _watch(self) -> None:
        """Close it if it is too slow, else look again when it may be."""
        if self._pace is None or self._loop is None or self._transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        now = self._loop.time()
        reason, at = self._pace.verdict(now, known=self._owner.known(self._owner.flow_to(*self.key)))
        if reason:
            self._timer = None
            self.abort(reason)
        else:
            self._timer = self._loop.call_at(at, self._watch)
