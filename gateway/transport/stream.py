"""SIP over TCP (RFC 3261 §18): connections found by their far side, opened when there is none, reused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from gateway.sip.errors import ParseError
from gateway.sip.flow import Flow
from gateway.sip.framing import PONG, Framer
from gateway.sip.uri import ip_version

_CONNECT_SECONDS = 4.0
_QUEUE_BYTES = 1024 * 1024
_CONNECTIONS = 10000


class _Connection(asyncio.Protocol):
    """One TCP connection; what is sent before it is up waits in ``_waiting``."""

    def __init__(self, endpoint: StreamEndpoint, key: tuple[str, int] | None) -> None:
        self._endpoint = endpoint
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._queued = 0
        self.key = key

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        peer = transport.get_extra_info("peername")
        if peer is None:
            self._transport.abort()
            return
        self.key = self.key or (peer[0], peer[1])
        self._endpoint.adopt(self)
        for data in self._waiting:
            self._transport.write(data)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        assert self.key is not None
        try:
            frames = self._framer.feed(data)
        except ParseError:
            self.abort()
            return
        flow = self._endpoint.flow_to(*self.key)
        for frame in frames:
            if not self._endpoint.received(frame, flow):
                self.abort()  # not SIP: where the next message starts can't be known
                break
        if self._framer.pings:
            self._framer.pings = 0
            self.send(PONG)
        self._endpoint.drained()

    def send(self, data: bytes) -> bool:
        """Queue bytes; False when the far side has stopped reading and too much is waiting."""
        if self._transport is None:
            self._waiting.append(data)
            self._queued += len(data)
            return self._queued <= _QUEUE_BYTES
        if self._transport.get_write_buffer_size() > _QUEUE_BYTES:
            self.abort()
            return False
        self._transport.write(data)
        return True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._endpoint.discard(self)


class StreamEndpoint:
    """One listening TCP address and all its connections, accepted and opened."""

    def __init__(
        self,
        host: str,
        port: int,
        received: Callable[[bytes, Flow], bool],
        drained: Callable[[], None],
        failed: Callable[[Flow], None],
    ) -> None:
        """Bind and listen; port 0 lets the system choose. Raises OSError."""
        self.received = received
        self.drained = drained
        self._failed = failed
        self._v6 = ip_version(host) == 6
        self._socket = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._v6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._connections: dict[tuple[str, int], _Connection] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._server = await loop.create_server(lambda: _Connection(self, None), sock=self._socket, backlog=512)

    def flow_to(self, host: str, port: int) -> Flow:
        return Flow("tcp", self.host, self.port, host, port)

    def adopt(self, connection: _Connection) -> None:
        assert connection.key is not None
        if len(self._connections) >= _CONNECTIONS and connection.key not in self._connections:
            connection.abort()
            return
        self._connections[connection.key] = connection

    def discard(self, connection: _Connection) -> None:
        if connection.key is not None and self._connections.get(connection.key) is connection:
            del self._connections[connection.key]

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send on the connection to the far side of ``flow``, opening one where there is none."""
        key = flow.remote_host, flow.remote_port
        connection = self._connections.get(key)
        if connection is None:
            if self._loop is None or len(self._connections) >= _CONNECTIONS:
                return False
            connection = self._connections[key] = _Connection(self, key)
            task = self._loop.create_task(self._open(connection, flow))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        return connection.send(data)

    async def _open(self, connection: _Connection, flow: Flow) -> None:
        assert self._loop is not None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._loop.create_connection(
                    lambda: connection, flow.remote_host, flow.remote_port, local_addr=(self.host, 0)
                )
        except (OSError, TimeoutError, ValueError, OverflowError):
            self.discard(connection)
            self._failed(flow)

    async def close(self) -> None:
        for task in tuple(self._opening):
            task.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections.values()):
            connection.close()
        self._socket.close()
