"""SIP over UDP: a plain non-blocking socket on the event loop, so that no bad address can ever close it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable

from gateway.sip.flow import Flow
from gateway.sip.uri import ip_version

_BATCH = 64
_BUFFER = 4 * 1024 * 1024
_FLOWS = 4096
_TIMESTAMPS = 35
"""SO_TIMESTAMPNS: the kernel says when a datagram came in (socket(7))."""
_TIMESPEC = struct.Struct("@qq")


def _ignored(_: float) -> None:
    return


class UdpEndpoint:
    """One listening address. ``received(data, flow)`` is called for each datagram, ``drained()`` after a batch."""

    def __init__(
        self,
        host: str,
        port: int,
        received: Callable[[bytes, Flow], object],
        drained: Callable[[], None],
        waited: Callable[[float], None] = _ignored,
    ) -> None:
        """Bind; port 0 lets the system choose. ``waited`` is told how many seconds a datagram lay in the buffer, when
        many do. Raises OSError."""
        version = ip_version(host)
        self._v6 = version == 6
        self._socket = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        if self._v6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._received = received
        self._drained = drained
        self._waited = waited
        self._busy = False
        self._flows: dict[tuple[str, int], Flow] = {}
        self.send_errors = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        busy = self._busy
        self._busy = True
        for number in range(_BATCH):
            try:
                if busy and not number:
                    data, address = self._read_timed()
                else:
                    data, address = self._socket.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                self._busy = False
                break
            except OSError:
                continue  # an ICMP error queued on the socket; the next datagram is as good as ever
            if address[1]:
                self._received(data, self._flows.get(address) or self._flow(address))
        self._drained()

    def _flow(self, address: tuple[str, int]) -> Flow:
        """The flow from ``address``, made once: most of what comes is from few."""
        if len(self._flows) >= _FLOWS:
            self._flows.clear()
        flow = self._flows[address] = Flow("udp", self.host, self.port, address[0], address[1])
        return flow

    def _read_timed(self) -> tuple[bytes, tuple[str, int]]:
        """One datagram, and ``waited`` told how long it lay there: the last batch did not empty the buffer."""
        data, extra, _, address = self._socket.recvmsg(65535, 64)
        for _, kind, value in extra:
            if kind == _TIMESTAMPS and len(value) >= _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                age = time.time() - seconds - nanoseconds / 1e9
                if 0.0 < age < 60.0:  # else the clock was set meanwhile
                    self._waited(age)
        return data, address

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
