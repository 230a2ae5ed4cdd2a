"""SIP over UDP: a plain non-blocking socket on the event loop, so that no bad address can ever close it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from gateway.sip.flow import Flow
from gateway.sip.uri import ip_version

_BATCH = 64
_BUFFER = 4 * 1024 * 1024


class UdpEndpoint:
    """One listening address. ``received(data, flow)`` is called for each datagram, ``drained()`` after a batch."""

    def __init__(
        self, host: str, port: int, received: Callable[[bytes, Flow], object], drained: Callable[[], None]
    ) -> None:
        """Bind; port 0 lets the system choose. Raises OSError."""
        version = ip_version(host)
        self._v6 = version == 6
        self._socket = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        if self._v6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._received = received
        self._drained = drained
        self.send_errors = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                data, address = self._socket.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # an ICMP error queued on the socket; the next datagram is as good as ever
            if address[1]:
                self._received(data, Flow("udp", self.host, self.port, address[0], address[1]))
        self._drained()

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send one datagram; False when the system refuses it (retransmission or failover takes over)."""
        try:
            self._socket.sendto(data, (flow.remote_host, flow.remote_port))
        except (BlockingIOError, InterruptedError):
            self.send_errors += 1  # as good as lost on the wire
        except (OSError, OverflowError, ValueError):
            self.send_errors += 1
            return False
        return True

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._socket.fileno())
        self._socket.close()
