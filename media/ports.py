"""RTP ports: even ones, each with the odd RTCP port after it (RFC 3550 §11), and the sockets bound to them.

A port given back rests for a while before it is given out again, so that the last call's packets, still under way, do
not land in the next call. Ports are reused in the order in which they were given back.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from media.engine import Address, MediaError, NoPortsLeft

RECEIVE_BUFFER = 128 * 1024
"""Asked of the kernel for RTP (it doubles that): some two seconds of G.711, should the relay be held up."""
RTCP_BUFFER = 16 * 1024


class PortAllocator:
    """Even ports of ``lowest``..``highest`` (their RTCP port, too, is within), for one local address.

    ``quarantine`` is in the seconds of ``clock``. Not thread-safe. Raises ValueError when no pair fits in.
    """

    def __init__(self, lowest: int, highest: int, quarantine: float, clock: Callable[[], float]) -> None:
        pairs = range(lowest + lowest % 2, highest, 2)
        if not 1 <= lowest <= highest <= 65535 or not pairs:
            raise ValueError(f"no RTP/RTCP port pair fits into {lowest}-{highest}")
        self._quarantine = quarantine
        self._clock = clock
        self._free = deque(pairs)
        self._resting: deque[tuple[float, int]] = deque()
        self._used: set[int] = set()

    def acquire(self) -> int:
        """The RTP port that has been free the longest. Raises NoPortsLeft."""
        self._wake()
        if not self._free:
            raise NoPortsLeft(f"all {len(self._used) + len(self._resting)} RTP port pairs are in use or resting")
        port = self._free.popleft()
        self._used.add(port)
        return port

    def release(self, port: int) -> None:
        """Give a port back, to rest first. Raises ValueError for one that was not acquired."""
        self._take_back(port)
        self._resting.append((self._clock() + self._quarantine, port))

    def put_back(self, port: int) -> None:
        """Give a port back that carried no packet; it is the last to be tried again."""
        self._take_back(port)
        self._free.append(port)

    @property
    def used(self) -> int:
        """How many ports are acquired now."""
        return len(self._used)

    @property
    def free(self) -> int:
        """How many ports can be acquired now."""
        self._wake()
        return len(self._free)

    def _take_back(self, port: int) -> None:
        if port not in self._used:
            raise ValueError(f"port {port} is not in use")
        self._used.remove(port)

    def _wake(self) -> None:
        now = self._clock()
        while self._resting and self._resting[0][0] <= now:
            self._free.append(self._resting.popleft()[1])


@dataclass(frozen=True, slots=True)
class PortPair:
    """A leg's bound sockets, RTP and RTCP; ``address`` is the RTP one's."""

    address: Address
    rtp: socket.socket
    rtcp: socket.socket

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """One ``PortAllocator`` for each local address, all with the same range; opens and binds.

    ``dscp`` marks what the sockets send (RFC 2474). Raises ValueError for an unusable range.
    """

    def __init__(
        self, lowest: int, highest: int, *, quarantine: float, clock: Callable[[], float], dscp: int = 0
    ) -> None:
        self._make: Callable[[], PortAllocator] = lambda: PortAllocator(lowest, highest, quarantine, clock)
        self._make()  # a bad range is to be heard of now
        self._allocators: dict[str, PortAllocator] = {}
        self._dscp = dscp

    def open(self, host: str) -> PortPair:
        """Bind a pair on ``host``, an IP literal. Raises NoPortsLeft, or MediaError naming the address."""
        allocator = self._allocators.get(host)
        if allocator is None:
            try:
                host = str(ipaddress.ip_address(host))
            except ValueError:
                raise MediaError(f"{host!r} is not an IP literal to bind RTP on") from None
            allocator = self._allocators.setdefault(host, self._make())
        for _ in range(max(1, allocator.free)):
            port = allocator.acquire()
            try:
                return bind_pair(host, port, self._dscp)
            except OSError as error:
                allocator.put_back(port)
                if error.errno != errno.EADDRINUSE:
                    raise MediaError(f"cannot open RTP on {host} port {port}: {error.strerror}") from error
        raise NoPortsLeft(f"other programs hold every free RTP port pair on {host}")

    def release(self, address: Address) -> None:
        """A pair that was in use is closed; its ports rest."""
        self._allocators[address.host].release(address.port)

    def cancel(self, pair: PortPair) -> None:
        """Close a pair that was never used; its ports do not rest."""
        pair.close()
        self._allocators[pair.address.host].put_back(pair.address.port)


def bind_pair(host: str, port: int, dscp: int = 0) -> PortPair:
    """UDP sockets on ``port`` and the one after it, not blocking. Raises OSError, leaving nothing open."""
    rtp = _bind(host, port, dscp, RECEIVE_BUFFER)
    try:
        return PortPair(Address(host, port), rtp, _bind(host, port + 1, dscp, RTCP_BUFFER))
    except BaseException:
        rtp.close()
        raise


def _bind(host: str, port: int, dscp: int, room: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made
