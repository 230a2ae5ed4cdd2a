"""The shell around the user agent core: its sockets, its one timer, its outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gateway.sip.flow import Flow
from gateway.sip.user_agent import Endpoint, UserAgent
from gateway.transport.stream import StreamEndpoint
from gateway.transport.udp import UdpEndpoint


class SipTransport:
    """Listens on all addresses of one user agent. Bind first (``endpoints`` then tells the ports), then ``start``."""

    def __init__(self, listen: Iterable[tuple[str, str, int]]) -> None:
        """``listen``: (``udp`` or ``tcp``, IP literal, port or 0). Raises OSError naming the address."""
        self._udp: dict[tuple[str, int], UdpEndpoint] = {}
        self._tcp: dict[tuple[str, int], StreamEndpoint] = {}
        self._agent: UserAgent | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flushing = False
        for transport, host, port in listen:
            try:
                self._bind(transport, host, port)
            except OSError as error:
                self._close_sockets()
                raise OSError(error.errno, f"cannot listen on {transport}:{host}:{port}: {error.strerror}") from None
        self.endpoints = tuple(
            [Endpoint("udp", *key) for key in self._udp] + [Endpoint("tcp", *key) for key in self._tcp]
        )

    def _bind(self, transport: str, host: str, port: int) -> None:
        if transport == "udp":
            udp = UdpEndpoint(host, port, self._received, self.flush)
            self._udp[udp.host, udp.port] = udp
        else:
            tcp = StreamEndpoint(host, port, self._received, self.flush, self._failed)
            self._tcp[tcp.host, tcp.port] = tcp

    async def start(self, agent: UserAgent) -> None:
        """Receive and send for ``agent`` from now on."""
        self._agent = agent
        self._loop = asyncio.get_running_loop()
        for udp in self._udp.values():
            udp.start(self._loop)
        for tcp in self._tcp.values():
            await tcp.start(self._loop)
        self.flush()

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
        endpoint = self._udp.get(key) if flow.transport == "udp" else self._tcp.get(key)
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
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            for udp in self._udp.values():
                udp.close(self._loop)
            for tcp in self._tcp.values():
                await tcp.close()
        self._agent = None

    def _close_sockets(self) -> None:
        for udp in self._udp.values():
            udp._socket.close()
        for tcp in self._tcp.values():
            tcp._socket.close()
