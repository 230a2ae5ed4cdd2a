"""SIP over TCP and TLS (RFC 3261 §18, §26.2): connections found by their far side, opened when there is none, reused.

Over TLS a request within a dialog, and a call to a registered phone, go on the connection that the far side made, as
long as it is up; nothing ever falls back to a connection without TLS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from gateway.guard.pace import ConnectionTable, StreamLimits
from gateway.sip.flow import Flow
from gateway.sip.message import MAX_MESSAGE
from gateway.sip.uri import ip_version
from gateway.transport.connection import Connection
from gateway.transport.tls import TlsContexts

_CONNECT_SECONDS = 4.0
_BACKLOG = 512
_ACCEPTS = 64
_REST_SECONDS = 1.0


def _everybody(_: Flow) -> bool:
    return True


def _nothing(_: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """Who may connect, and for how long. As it is here: whoever wants, within the limits for those who are known."""

    limits: StreamLimits = field(default_factory=StreamLimits)
    known: Callable[[Flow], bool] = _everybody
    """Whether the far side is configured, or has proved itself lately."""
    welcome: Callable[[Flow], bool] = _everybody
    """Whether it may connect at all."""
    closed: Callable[[str], None] = _nothing
    """Told why a connection was refused or cut off."""
    max_message: int = MAX_MESSAGE


class StreamEndpoint:
    """One listening address and all its connections, accepted and opened; TLS if ``contexts`` are given."""

    def __init__(
        self,
        host: str,
        port: int,
        received: Callable[[bytes, Flow], bool],
        drained: Callable[[], None],
        failed: Callable[[Flow], None],
        *,
        contexts: TlsContexts | None = None,
        policy: StreamPolicy | None = None,
        table: ConnectionTable | None = None,
    ) -> None:
        """Bind and listen; port 0 lets the system choose. ``table`` counts the connections of several endpoints.

        Raises OSError."""
        self.transport = "tcp" if contexts is None else "tls"
        self.received = received
        self.drained = drained
        self._failed = failed
        self._contexts = contexts
        self._policy = policy or StreamPolicy()
        self.limits = self._policy.limits
        self.max_message = self._policy.max_message
        self.closed_for = self._policy.closed
        self.known = self._policy.known
        self._table = table or ConnectionTable(self.limits)
        self._socket = _listening(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._connections: dict[tuple[str, int], Connection] = {}
        self._counted: dict[Connection, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resting: asyncio.TimerHandle | None = None

    async def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections from now on."""
        self._loop = loop
        self._socket.listen(_BACKLOG)
        loop.add_reader(self._socket.fileno(), self._accept)

    def flow_to(self, host: str, port: int) -> Flow:
        return Flow(self.transport, self.host, self.port, host, port)

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError:
                self._rest()
                return
            self._welcome(sock, address[0], address[1])

    def _rest(self) -> None:
        """No file descriptor is left: the others wait in the backlog for a while."""
        assert self._loop is not None
        self.closed_for("no file descriptors")
        self._loop.remove_reader(self._socket.fileno())
        self._resting = self._loop.call_later(_REST_SECONDS, self._loop.add_reader, self._socket.fileno(), self._accept)

    def _welcome(self, sock: socket.socket, host: str, port: int) -> None:
        flow = self.flow_to(host, port)
        if not port or not self._policy.welcome(flow):
            self.closed_for("not welcome")
            sock.close()
        elif not self._table.admit(host, known=self.known(flow)):
            self.closed_for("too many")
            sock.close()
        else:
            connection = Connection(self, (host, port), accepted=True)
            self._counted[connection] = host
            sock.setblocking(False)
            self._spawn(self._take(connection, sock))

    async def _take(self, connection: Connection, sock: socket.socket) -> None:
        assert self._loop is not None
        secure = None if self._contexts is None else self._contexts.server
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, sock, ssl=secure, ssl_handshake_timeout=self.limits.handshake if secure else None
            )
        except (OSError, ssl.SSLError, TimeoutError, ValueError):
            self.closed_for("handshake")
        finally:
            if not connection.met:
                self.discard(connection)

    # -- opening -----------------------------------------------------------------------------------------------------

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send on the connection to the far side of ``flow``, opening one where there is none."""
        key = flow.remote_host, flow.remote_port
        connection = self._connections.get(key)
        if connection is None or connection.gone:
            if self._loop is None or self._table.total >= self.limits.connections:
                return False
            connection = self._connections[key] = Connection(self, key, accepted=False)
            self._counted[connection] = flow.remote_host
            self._table.take(flow.remote_host)
            self._spawn(self._open(connection, flow))
        return connection.send(data)

    async def _open(self, connection: Connection, flow: Flow) -> None:
        assert self._loop is not None
        context, name = self._contexts.client(*connection.key) if self._contexts is not None else (None, None)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._loop.create_connection(
                    lambda: connection, flow.remote_host, flow.remote_port, local_addr=(self.host, 0), ssl=context,
                    server_hostname=name,
                )  # fmt: skip
        except (OSError, ssl.SSLError, TimeoutError, ValueError, OverflowError) as error:
            self.closed_for("certificate" if isinstance(error, ssl.SSLCertVerificationError) else "not opened")
            self.discard(connection)
            self._failed(flow)

    # -- connections -------------------------------------------------------------------------------------------------

    def adopt(self, connection: Connection) -> None:
        """A connection is up."""
        self._connections[connection.key] = connection

    def discard(self, connection: Connection) -> None:
        """A connection is gone, or did not come about."""
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]
        host = self._counted.pop(connection, None)
        if host is not None:
            self._table.release(host)

    def connected(self, flow: Flow) -> bool:
        """Whether there is a connection to the far side of ``flow``."""
        connection = self._connections.get((flow.remote_host, flow.remote_port))
        return connection is not None and connection.up

    def names_of(self, flow: Flow) -> frozenset[str]:
        """Whom the certificate at the far side of ``flow`` names, if there is one that was verified."""
        connection = self._connections.get((flow.remote_host, flow.remote_port))
        return connection.names if connection is not None else frozenset()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop listening, close every connection once what is queued is out."""
        if self._resting is not None:
            self._resting.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        for connection in tuple(self._connections.values()):
            connection.close()
        self._socket.close()

    def close_socket(self) -> None:
        """Give up before ``start``."""
        self._socket.close()


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError."""
    v6 = ip_version(host) == 6
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
