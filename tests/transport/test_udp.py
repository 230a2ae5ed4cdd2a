"""UDP at the socket: what is read, and how late."""

from __future__ import annotations

import asyncio
import socket

from gateway.sip.flow import Flow
from gateway.transport.udp import UdpEndpoint


async def test_it_tells_how_long_datagrams_lay_when_there_are_many() -> None:
    """More than a batch is waiting: from the second one on, its first datagram's age is told."""
    received, ages, done = [], [], asyncio.Event()

    def take(data: bytes, flow: Flow) -> None:
        received.append(data)
        if len(received) == 300:
            done.set()

    endpoint = UdpEndpoint("127.0.0.1", 0, take, lambda: None, ages.append)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(300):
            sock.sendto(b"%d" % number, ("127.0.0.1", endpoint.port))
        endpoint.start(asyncio.get_running_loop())
        async with asyncio.timeout(10):
            await done.wait()
        assert received == [b"%d" % number for number in range(300)]
        assert len(ages) >= 4 and all(0 < age < 10 for age in ages)
        ages.clear()
        done.clear()
        received.clear()
        for number in range(300):
            sock.sendto(b"%d" % number, ("127.0.0.1", endpoint.port))
            if number % 5 == 4:
                while len(received) <= number:
                    await asyncio.sleep(0)
        assert ages == [], "nothing is asked while it keeps up"
    endpoint.close(asyncio.get_running_loop())
