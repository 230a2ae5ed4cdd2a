"""The shell around the user agent core: its sockets, its one timer, its outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gateway.guard.pace import ConnectionTable
from gateway.sip.flow import Flow
from gateway.sip.user_agent import Endpoint, UserAgent
from gateway.transport.stream import StreamEndpoint, StreamPolicy
from gateway.transport.tls import TlsContexts
from gateway.transport.udp import UdpEndpoint

_BEAT_SECONDS = 0.1


class SipTransport:
    """Listens on all addresses of one user agent. Bind first (``endpoints`` then tells the ports), then ``start``."""

    def __init__(
        self,
        listen: Iterable[tuple[str, str, int]],
        *,
        contexts: TlsContexts | None = None,
        streams: StreamPolicy | None = None,
        late: Callable[[float, float], None] | None = None,
    ) -> None:
        """``listen``: (``udp``, ``tcp`` or ``tls``, IP literal, port or 0); ``tls`` takes ``contexts``. ``late`` is
        told, ten times a second, how many seconds late work is done, and the time.

        Raises OSError naming the address."""
        self._udp: dict[tuple[str, int], UdpEndpoint] = {}
        self._streams: dict[tuple[str, int], StreamEndpoint] = {}
        self._contexts = contexts
        self._policy = streams or StreamPolicy()
        self.connections = ConnectionTable(self._policy.limits)
        self._agent: UserAgent | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flushing = False
        self._late = late
        self._beat: asyncio.TimerHandle | None = None
        for transport, host, port in listen:
            try:
                self._bind(transport, host, port)
            except OSError as error:
                self._close_sockets()
                raise OSError(error.errno, f"cannot listen on {transport}:{host}:{port}: {error.strerror}") from None
        self.endpoints = tuple(
            [Endpoint("udp", *key) for key in self._udp] + [Endpoint(e.transport, *k) for k, e in self._streams.items()]
        )

    def _bind(self, transport: str, host: str, port: int) -> None:
        if transport == "udp":
            udp = UdpEndpoint(host, port, self._received, self.flush, self._waited)
            self._udp[udp.host, udp.port] = udp
            return
        if transport == "tls" and self._contexts is None:
            raise ValueError("tls takes contexts")
        stream = StreamEndpoint(
            host, port, self._received, self.flush, self._failed,
            contexts=self._contexts if transport == "tls" else None, policy=self._policy, table=self.connections,
        )  # fmt: skip
        self._streams[stream.host, stream.port] = stream

    def reload(self) -> None:
        """Read certificates, keys and CAs anew, for connections to come. Raises TlsError; then nothing has changed."""
        if self._contexts is not None:
            self._contexts.reload()

    def connected(self, flow: Flow) -> bool:
        """Whether there is a connection that ``flow`` would go on."""
        stream = self._streams.get((flow.local_host, flow.local_port)) if flow.reliable else None
        return stream is not None and stream.connected(flow)

    def names_of(self, flow: Flow) -> frozenset[str]:
        """Whom the verified certificate at the far side of ``flow`` names; empty without TLS or certificate."""
        stream = self._streams.get((flow.local_host, flow.local_port)) if flow.reliable else None
        return stream.names_of(flow) if stream is not None else frozenset()

    async def start(self, agent: UserAgent) -> None:
        """Receive and send for ``agent`` from now on."""
        self._agent = agent
        self._loop = asyncio.get_running_loop()
        for udp in self._udp.values():
            udp.start(self._loop)
        for stream in self._streams.values():
            await stream.start(self._loop)
        if self._late is not None:
            self._watch_lateness(self._loop.time())
        self.flush()

    def _watch_lateness(self, due: float) -> None:
        assert self._loop is not None
        if self._late is not None:
            self._late(self._loop.time() - due, self._loop.time())
        at = self._loop.time() + _BEAT_SECONDS
        self._beat = self._loop.call_at(at, self._watch_lateness, at)

    def _waited(self, seconds: float) -> None:
        if self._late is not None and self._loop is not None:
            self._late(seconds, self._loop.time())

    def _received(self, data: bytes, flow: Flow) -> bool:
        assert self._agent is not None and self._loop is not None
        return self._agent.receive(data, flow, self._loop.time())

    def _failed(self, flow: Flow) -> None:
        if self._agent is not None and self._loop is not None:
            self._agent.transport_failed(flow, self._loop.time())
            self.flush()

    def flush(self) -> None:
        """Send what the agent has to send, and set the timer to its next deadline. Call it after using the agent."""
        if self._agent is None or self._loop is None or self._flushing:
            return
        self._flushing = True
        try:
            while outbox := self._agent.take():
                for flow, data in outbox:
                    if not self._send(flow, data):
                        self._agent.transport_failed(flow, self._loop.time())
        finally:
            self._flushing = False
        self._set_timer()

    def _send(self, flow: Flow, data: bytes) -> bool:
        key = flow.local_host, flow.local_port
        endpoint = self._udp.get(key) if flow.transport == "udp" else self._streams.get(key)
        return endpoint is not None and endpoint.send(flow, data)

    def _set_timer(self) -> None:
        assert self._agent is not None and self._loop is not None
        deadline = self._agent.next_deadline()
        if self._timer is not None:
            if deadline is not None and self._timer_at <= deadline:
                return  # it wakes early enough; what has been stopped meanwhile costs one empty wake
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._wake)

    def _wake(self) -> None:
        assert self._agent is not None and self._loop is not None
        self._timer = None
        self._agent.advance(self._loop.time())
        self.flush()

    def call_user(self, action: Callable[[float], None]) -> None:
        """Run ``action(now)`` on the agent and send what it gave."""
        if self._loop is not None:
            action(self._loop.time())
            self.flush()

    async def close(self) -> None:
        """Stop; what is in the outbox is sent first."""
        self.flush()
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        if self._loop is not None:
            for udp in self._udp.values():
                udp.close(self._loop)
            for stream in self._streams.values():
                await stream.close()
        else:
            self._close_sockets()
        self._agent = None

    def _close_sockets(self) -> None:
        for udp in self._udp.values():
            udp._socket.close()
        for stream in self._streams.values():
            stream.close_socket()
