"""The port allocator against its rules, and the pool on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.engine import Address, MediaError, NoPortsLeft
from media.ports import PortAllocator, PortPool
from tests.support.rtp_peer import free_range


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_even_ports_in_order_then_none() -> None:
    ports = PortAllocator(10001, 10007, 5.0, Clock())
    assert [ports.acquire() for _ in range(3)] == [10002, 10004, 10006]
    with pytest.raises(NoPortsLeft, match="3 RTP port pairs") as caught:
        ports.acquire()
    assert caught.value.sip_status == 503


def test_the_rtcp_port_is_in_the_range_too() -> None:
    ports = PortAllocator(10000, 10002, 0.0, Clock())
    assert ports.free == 1 and ports.acquire() == 10000


@pytest.mark.parametrize(("lowest", "highest"), [(10000, 10000), (10001, 10002), (0, 100), (10010, 10000), (2, 65536)])
def test_unusable_ranges(lowest: int, highest: int) -> None:
    with pytest.raises(ValueError, match="fits into"):
        PortAllocator(lowest, highest, 1.0, Clock())


def test_a_released_port_rests_and_comes_back_last() -> None:
    clock = Clock()
    ports = PortAllocator(10000, 10005, 5.0, clock)
    first = ports.acquire()
    ports.release(first)
    assert [ports.acquire(), ports.acquire()] == [10002, 10004]
    clock.now = 4.9
    with pytest.raises(NoPortsLeft):
        ports.acquire()
    clock.now = 5.0
    assert ports.acquire() == first


def test_put_back_does_not_rest() -> None:
    ports = PortAllocator(10000, 10003, 5.0, Clock())
    ports.put_back(ports.acquire())
    assert [ports.acquire(), ports.acquire()] == [10002, 10000]


@pytest.mark.parametrize("give_back", [PortAllocator.release, PortAllocator.put_back])
def test_only_what_is_in_use_can_be_given_back(give_back: Callable[[PortAllocator, int], None]) -> None:
    ports = PortAllocator(10000, 10003, 5.0, Clock())
    port = ports.acquire()
    ports.release(port)
    with pytest.raises(ValueError, match="not in use"):
        give_back(ports, port)


@given(st.lists(st.sampled_from(["acquire", "release", "tick"]), max_size=200), st.integers(0, 4))
def test_never_twice_and_never_before_its_rest(script: list[str], quarantine: int) -> None:
    clock = Clock()
    ports = PortAllocator(20000, 20011, quarantine, clock)
    used: list[int] = []
    released: dict[int, float] = {}
    for step in script:
        if step == "tick":
            clock.now += 1
        elif step == "release" and used:
            port = used.pop(0)
            released[port] = clock.now
            ports.release(port)
        elif step == "acquire":
            ready = [at for at in range(20000, 20011, 2) if at not in used]
            ready = [at for at in ready if at not in released or released[at] + quarantine <= clock.now]
            assert ports.free == len(ready)
            if not ready:
                with pytest.raises(NoPortsLeft):
                    ports.acquire()
                continue
            port = ports.acquire()
            assert port in ready and port not in used
            used.append(port)
        assert ports.used == len(used)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_bound_pair(host: str) -> None:
    lowest = free_range(1)
    pool = PortPool(lowest, lowest + 1, quarantine=0.0, clock=Clock(), dscp=46)
    pair = pool.open(host)
    assert pair.address == Address(host, lowest)
    assert [made.getsockname()[1] for made in (pair.rtp, pair.rtcp)] == [lowest, lowest + 1]
    assert not pair.rtp.getblocking() and not pair.rtp.get_inheritable()
    assert pair.rtp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    if host == "::1":
        assert pair.rtp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        assert pair.rtp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 46 << 2
    else:
        assert pair.rtp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2
    pool.cancel(pair)
    assert pair.rtp.fileno() == -1


def test_addresses_have_their_own_ports() -> None:
    lowest = free_range(1)
    pool = PortPool(lowest, lowest + 1, quarantine=9.0, clock=Clock())
    pairs = [pool.open(host) for host in ("127.0.0.1", "0:0:0:0:0:0:0:1")]
    assert [pair.address for pair in pairs] == [Address("127.0.0.1", lowest), Address("::1", lowest)]
    for pair in pairs:
        pool.release(pair.address)
        pair.close()
    with pytest.raises(NoPortsLeft):
        pool.open("::1")


@pytest.mark.parametrize("taken", [0, 1])
def test_ports_of_other_programs_are_passed_over(taken: int) -> None:
    lowest = free_range(2)
    pool = PortPool(lowest, lowest + 3, quarantine=0.0, clock=Clock())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.bind(("127.0.0.1", lowest + taken))
        pair = pool.open("127.0.0.1")
        assert pair.address.port == lowest + 2
        with pytest.raises(NoPortsLeft, match="other programs"):
            pool.open("127.0.0.1")
    again = pool.open("127.0.0.1")
    assert again.address.port == lowest
    pair.close()
    again.close()


@pytest.mark.parametrize(("host", "says"), [("example.org", "not an IP literal"), ("192.0.2.1", "192.0.2.1 port")])
def test_addresses_that_cannot_be_bound(host: str, says: str) -> None:
    with pytest.raises(MediaError, match=says) as caught:
        PortPool(40000, 40001, quarantine=0.0, clock=Clock()).open(host)
    assert not isinstance(caught.value, NoPortsLeft)
