"""The relay on real loopback sockets: forwarding, latching, capture, closing while traffic flows."""

from __future__ import annotations

import gc
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from media.engine import Address
from media.ports import PortPair, bind_pair
from media.relay import Relay, Session
from tests.support.rtp_peer import PATIENCE, RtpPeer, rtcp, rtp, telephone_events, until

AGENT, PROSPECT = 0, 1
HOSTS = ["127.0.0.1", "::1"]


class Call:
    """A relay session between two far ends."""

    def __init__(self, relay: Relay, agent_host: str = "127.0.0.1", prospect_host: str = "127.0.0.1") -> None:
        pairs = [ephemeral_pair(agent_host), ephemeral_pair(prospect_host)]
        self.local = [pair.address for pair in pairs]
        self.session: Session = relay.open(*[(pair.rtp.detach(), pair.rtcp.detach()) for pair in pairs])
        self.peers = [RtpPeer(agent_host), RtpPeer(prospect_host)]

    def connect(self) -> Call:
        for side, peer in enumerate(self.peers):
            self.session.set_remote(side, astuple(peer.rtp), astuple(peer.rtcp))
        return self

    def through(self, side: int, packet: bytes, sender: RtpPeer | None = None) -> None:
        """``packet`` sent on ``side`` arrives at the other far end, from that leg's port."""
        (sender or self.peers[side]).send(packet, self.local[side])
        assert self.peers[1 - side].receive() == (packet, self.local[1 - side])

    def settle(self, side: int) -> None:
        """Returns when the worker has done with everything sent on ``side`` before, counting included."""
        for marker in (rtcp(204, 1), rtcp(204, 2)):
            self.peers[side].send_rtcp(marker, self.local[side])
            while self.peers[1 - side].receive_rtcp()[0] != marker:
                pass

    def close(self) -> None:
        self.session.close()
        for peer in self.peers:
            peer.close()


def astuple(address: Address) -> tuple[str, int]:
    return address.host, address.port


def ephemeral_pair(host: str) -> PortPair:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1] & ~1
        try:
            return bind_pair(host, port)
        except OSError:
            continue


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


BACKENDS = ["epoll"] if Relay(1).backend == "epoll" else ["epoll", "io_uring"]
"""io_uring, too, where this kernel allows it."""


@pytest.fixture(params=[(backend, workers) for backend in BACKENDS for workers in (1, 2)], ids=str)
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    backend, workers = request.param
    relay = Relay(workers, backend=backend, coalesce_us=200, ring_bytes=8192)
    yield relay
    relay.close()


@pytest.fixture
def call(relay: Relay) -> Iterator[Call]:
    call = Call(relay).connect()
    yield call
    call.close()


@pytest.mark.parametrize("agent_host", HOSTS)
@pytest.mark.parametrize("prospect_host", HOSTS)
def test_bit_exact_both_ways(relay: Relay, agent_host: str, prospect_host: str) -> None:
    call = Call(relay, agent_host, prospect_host).connect()
    for number in range(50):
        call.through(AGENT, rtp(os.urandom(160), sequence=number, csrcs=(1,), extension=bytes(8), padding=4))
        call.through(PROSPECT, rtp(os.urandom(number), sequence=number, payload_type=101, marker=True))
    report = rtcp(200) + os.urandom(20)
    call.peers[AGENT].send_rtcp(report, call.local[AGENT])
    data, source = call.peers[PROSPECT].receive_rtcp()
    assert data == report and source.port == call.local[PROSPECT].port + 1
    call.settle(AGENT)
    agent, prospect = call.session.stats()
    assert agent["received"] == agent["forwarded"] == prospect["received"] == 50
    assert agent["rtcp_received"] == 3 and agent["dropped_malformed"] == 0
    call.close()


def test_the_largest_datagram_passes_and_a_larger_one_is_malformed(call: Call) -> None:
    call.through(AGENT, rtp(os.urandom(4560 - 12)))
    for size in (4561, 5000, 65507):
        call.peers[AGENT].send(rtp(os.urandom(size - 12)), call.local[AGENT])
    until(lambda: call.session.stats()[AGENT]["dropped_malformed"] == 3)
    call.through(AGENT, rtp(b"still there"))


def test_in_order_within_a_leg(call: Call) -> None:
    packets = [rtp(b"x" * 160, sequence=number) for number in range(60)]
    for packet in packets:
        call.peers[AGENT].send(packet, call.local[AGENT])
    assert [call.peers[PROSPECT].receive()[0] for _ in packets] == packets


def test_nothing_is_accepted_before_signalling(relay: Relay) -> None:
    call = Call(relay)
    call.session.set_remote(PROSPECT, astuple(call.peers[PROSPECT].rtp))
    call.peers[AGENT].send(rtp(b"early"), call.local[AGENT])
    until(lambda: call.session.stats()[AGENT]["dropped_source"] == 1)
    assert call.session.stats()[AGENT]["far_end"] is None
    call.connect().through(AGENT, rtp(b"now"))
    call.close()


def test_injection_is_dropped_and_counted(call: Call) -> None:
    call.through(AGENT, rtp(b"1"))
    with RtpPeer() as attacker:
        attacker.send(rtp(b"evil"), call.local[AGENT])
        attacker.send_rtcp(rtcp(203), call.local[AGENT])
        call.through(AGENT, rtp(b"2"))
    call.settle(AGENT)
    assert call.session.stats()[AGENT]["dropped_source"] == 2
    assert call.session.stats()[AGENT]["received"] == 2
    assert call.peers[PROSPECT].pending() == []


def test_latches_onto_the_first_valid_source_and_sends_there(call: Call) -> None:
    with RtpPeer() as behind_nat:
        behind_nat.send(b"\0" * 40, call.local[AGENT])  # STUN-like: not valid, so no latch
        call.through(AGENT, rtp(b"1"), behind_nat)
        call.peers[PROSPECT].send(rtp(b"back"), call.local[PROSPECT])
        assert behind_nat.receive()[0] == rtp(b"back")
        assert call.session.stats()[AGENT]["far_end"] == astuple(behind_nat.rtp)
        # The signalled address comes too late: only signalling moves the latch.
        call.peers[AGENT].send(rtp(b"late"), call.local[AGENT])
        call.session.set_remote(AGENT, astuple(call.peers[AGENT].rtp), astuple(call.peers[AGENT].rtcp))
        call.through(AGENT, rtp(b"2"), behind_nat)
        until(lambda: call.session.stats()[AGENT]["dropped_source"] == 1)


def test_the_signalled_address_latches_at_once(call: Call) -> None:
    call.through(AGENT, rtp(b"1"))
    with RtpPeer() as other:
        other.send(rtp(b"2"), call.local[AGENT])
        call.through(AGENT, rtp(b"3"))
        until(lambda: call.session.stats()[AGENT]["dropped_source"] == 1)


@pytest.mark.parametrize("host", HOSTS)
def test_a_latched_leg_has_a_connected_socket_and_others_are_still_counted(relay: Relay, host: str) -> None:
    call = Call(relay, host, host).connect()
    before = open_fds()
    call.through(AGENT, rtp(b"1"))
    call.through(PROSPECT, rtp(b"2"))
    until(lambda: open_fds() == before + 2)
    with RtpPeer(host) as other:
        for number in range(50):
            other.send(rtp(b"injected", sequence=number), call.local[AGENT])
            call.through(AGENT, rtp(b"good", sequence=number))
        until(lambda: call.session.stats()[AGENT]["dropped_source"] == 50)
    until(lambda: call.session.stats()[AGENT]["forwarded"] == 51)  # counted just after it was sent
    assert call.session.stats()[AGENT]["received"] == 51
    call.close()


def test_no_other_program_can_share_the_ports_of_a_latched_leg(call: Call) -> None:
    call.through(AGENT, rtp(b"1"))
    call.settle(AGENT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            thief.bind(astuple(call.local[AGENT]))


def test_a_far_end_that_moves_again_and_again_is_followed(call: Call) -> None:
    before = open_fds()
    peers = [RtpPeer() for _ in range(3)]
    for number in range(60):
        peer = peers[number % 3]
        call.session.set_remote(AGENT, astuple(peer.rtp), astuple(peer.rtcp))
        for packet in (rtp(b"a", sequence=2 * number), rtp(b"b", sequence=2 * number + 1)):
            call.through(AGENT, packet, peer)
        call.peers[PROSPECT].send(rtp(b"back", sequence=number), call.local[PROSPECT])
        assert peer.receive()[0] == rtp(b"back", sequence=number)
    assert call.session.stats()[AGENT]["received"] == 120
    for peer in peers:
        peer.close()
    until(lambda: open_fds() <= before + 2)


def test_what_was_under_way_keeps_its_order_when_a_leg_is_latched(relay: Relay) -> None:
    for _ in range(20):
        call = Call(relay).connect()
        packets = [rtp(b"x", sequence=number) for number in range(100)]
        for packet in packets:
            call.peers[AGENT].send(packet, call.local[AGENT])
        assert [call.peers[PROSPECT].receive()[0] for _ in packets] == packets
        call.close()


def test_signalling_moves_the_latch_and_the_old_source_cannot_take_it_back(call: Call) -> None:
    call.through(AGENT, rtp(b"1"))
    with RtpPeer() as moved, RtpPeer() as nat:
        call.session.set_remote(AGENT, astuple(moved.rtp))
        call.peers[AGENT].send(rtp(b"still under way"), call.local[AGENT])
        call.through(AGENT, rtp(b"2"), nat)
        call.peers[PROSPECT].send(rtp(b"back"), call.local[PROSPECT])
        assert nat.receive()[0] == rtp(b"back")
        until(lambda: call.session.stats()[AGENT]["dropped_source"] == 1)


def test_hold_stops_sending_and_keeps_the_latch(call: Call) -> None:
    with RtpPeer() as behind_nat:
        call.through(AGENT, rtp(b"1"), behind_nat)
        call.session.set_remote(AGENT, None)
        call.peers[PROSPECT].send(rtp(b"into the void"), call.local[PROSPECT])
        until(lambda: call.session.stats()[PROSPECT]["dropped_no_target"] == 1)
        call.through(AGENT, rtp(b"2"), behind_nat)
        call.session.set_remote(AGENT, astuple(call.peers[AGENT].rtp), astuple(call.peers[AGENT].rtcp))
        call.peers[PROSPECT].send(rtp(b"again"), call.local[PROSPECT])
        assert behind_nat.receive()[0] == rtp(b"again")
        assert behind_nat.pending() == []


def test_rtcp_follows_rtp_behind_a_nat(relay: Relay) -> None:
    call = Call(relay).connect()
    call.session.set_remote(AGENT, ("127.0.0.9", 4000))  # signalled, but not what it sends from
    call.peers[AGENT].send_rtcp(rtcp(203, 1), call.local[AGENT])
    until(lambda: call.session.stats()[AGENT]["dropped_source"] == 1)
    call.through(AGENT, rtp(b"1"))
    call.peers[AGENT].send_rtcp(rtcp(203, 2), call.local[AGENT])
    assert call.peers[PROSPECT].receive_rtcp()[0] == rtcp(203, 2)
    call.close()


def test_unreachable_far_end_does_no_harm(call: Call) -> None:
    call.peers[PROSPECT].close()
    for number in range(20):
        call.peers[AGENT].send(rtp(b"x", sequence=number), call.local[AGENT])
    until(lambda: call.session.stats()[AGENT]["received"] == 20)
    call.peers[PROSPECT] = RtpPeer()
    call.connect().through(AGENT, rtp(b"y"))


def test_a_send_the_kernel_refuses_is_counted(call: Call) -> None:
    call.session.set_remote(PROSPECT, ("255.255.255.255", 9))  # no SO_BROADCAST: EACCES
    call.peers[AGENT].send(rtp(b"x"), call.local[AGENT])
    until(lambda: call.session.stats()[AGENT]["send_failed"] == 1)
    assert call.session.stats()[AGENT]["forwarded"] == 0


def test_only_legs_with_a_ring_and_only_listed_types_are_captured(relay: Relay, call: Call) -> None:
    before = relay.rings_made
    call.session.set_capture_types(AGENT, [0])
    call.session.set_capture_types(PROSPECT, [0])
    call.session.start_capture(AGENT, 0)
    for number in range(3):
        call.through(AGENT, rtp(b"agent's own", sequence=number))
        call.through(AGENT, rtp(b"\5\0\0\0", sequence=number, payload_type=101))
        call.through(PROSPECT, rtp(b"prospect's", sequence=number))
    assert relay.rings_made == before + 1
    assert call.session.ring_memory(PROSPECT) is None and call.session.drain(PROSPECT) == b""
    memory = call.session.ring_memory(AGENT)
    assert memory is not None and memory.count(b"agent's own") == 3 and b"prospect" not in memory
    assert call.session.drain(AGENT).count(b"agent's own") == 3
    agent, prospect = call.session.stats()
    assert agent["captured"] == 3 and prospect["captured"] == 0


def test_a_full_ring_loses_and_counts_while_the_call_goes_on(call: Call) -> None:
    call.session.set_capture_types(AGENT, [0])
    call.session.start_capture(AGENT, 0)
    for number in range(100):  # records of 184 bytes, room for 44
        call.through(AGENT, rtp(b"x" * 160, sequence=number))
    stats = call.session.stats()[AGENT]
    assert (stats["captured"], stats["ring_lost"]) == (44, 56)
    assert len(call.session.drain(AGENT)) == 44 * 184
    call.through(AGENT, rtp(b"x" * 160))
    assert len(call.session.drain(AGENT)) == 184


def test_stop_capture_ends_it_at_once(relay: Relay, call: Call) -> None:
    call.session.set_capture_types(AGENT, [0])
    call.session.start_capture(AGENT, 0)
    call.through(AGENT, rtp(b"allowed"))
    made, freed = relay.rings_made, relay.rings_freed
    remaining = call.session.stop_capture(AGENT)
    assert remaining is not None and b"allowed" in remaining
    call.through(AGENT, rtp(b"forbidden"))
    assert call.session.ring_memory(AGENT) is None and call.session.drain(AGENT) == b""
    assert call.session.stop_capture(AGENT) is None
    assert (relay.rings_made, relay.rings_freed) == (made, freed + 1)


def test_draining_against_traffic_neither_loses_nor_doubles(call: Call) -> None:
    """A drainer in another thread, the ring destroyed in the middle: the records are those captured, in order."""
    call.session.set_capture_types(AGENT, [0])
    call.session.start_capture(AGENT, 0)
    drained: list[bytes] = []
    stop = threading.Event()

    def drain() -> None:
        while not stop.wait(0.0005):  # leaves the GIL to the sender
            drained.append(call.session.drain(AGENT))

    thread = threading.Thread(target=drain)
    thread.start()
    for number in range(400):
        call.through(AGENT, rtp(b"x" * 8, sequence=number))
    remaining = call.session.stop_capture(AGENT)
    for number in range(400, 420):
        call.through(AGENT, rtp(b"x" * 8, sequence=number))
    stop.set()
    thread.join()
    assert remaining is not None
    records = b"".join(drained) + remaining
    sequences = [int.from_bytes(records[at + 16 : at + 18], "little") for at in range(0, len(records), 32)]
    assert sequences == list(range(400))


def test_close_is_final_and_gives_the_ports_back(relay: Relay) -> None:
    before = open_fds()
    call = Call(relay).connect()
    call.through(AGENT, rtp(b"1"))
    call.settle(AGENT)
    call.close()
    call.session.close()
    assert call.session.stats()[AGENT]["forwarded"] == 1
    assert call.session.drain(AGENT) == b"" and call.session.stop_capture(AGENT) is None
    with pytest.raises(ValueError, match="closed"):
        call.session.set_remote(AGENT, ("127.0.0.1", 4000))
    until(lambda: open_fds() == before)
    for address in call.local:
        bind_pair(address.host, address.port).close()


def test_opening_and_closing_under_fire(relay: Relay) -> None:
    """Packets hit the ports all the while, with capture, drain, hold and stats in between: no crash, no leak."""
    before, stop = open_fds(), threading.Event()
    steady = Call(relay).connect()
    steady.session.set_capture_types(AGENT, [0])
    targets: list[tuple[str, int]] = []

    def fire() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gun:
            while not stop.is_set():
                for target in list(targets)[-4:]:
                    gun.sendto(rtp(b"x" * 160), target)

    thread = threading.Thread(target=fire)
    thread.start()
    for number in range(150):
        call = Call(relay).connect()
        targets[:] = [astuple(address) for address in call.local]
        for side in (AGENT, PROSPECT):
            call.session.set_capture_types(side, [0])
            call.session.start_capture(side, 0)
        steady.through(AGENT, rtp(b"steady", sequence=number))
        call.session.drain(AGENT)
        call.session.stop_capture(PROSPECT)
        call.session.set_remote(AGENT, None)
        call.close()
    stop.set()
    thread.join()
    steady.close()
    until(lambda: open_fds() == before)
    assert relay.rings_made == relay.rings_freed
    assert sum(worker["sessions"] for worker in relay.stats()) == 0


def test_closing_the_relay_closes_sessions_and_ends_threads() -> None:
    before, threads = open_fds(), len(os.listdir("/proc/self/task"))  # noqa: PTH208
    relay = Relay(2)
    call = Call(relay).connect()
    call.through(AGENT, rtp(b"1"))
    relay.close()
    relay.close()
    until(lambda: len(os.listdir("/proc/self/task")) <= threads)  # noqa: PTH208
    pairs = [ephemeral_pair("127.0.0.1") for _ in range(2)]
    with pytest.raises(ValueError, match="closed"):
        relay.open(*[(pair.rtp.detach(), pair.rtcp.detach()) for pair in pairs])
    call.close()
    assert open_fds() == before


def test_forgotten_without_closing() -> None:
    gc.collect()  # what other tests left
    before = open_fds()
    relay = Relay(1)
    call = Call(relay).connect()
    call.session.start_capture(AGENT, 0)
    for peer in call.peers:
        peer.close()
    del relay, call
    gc.collect()
    until(lambda: open_fds() <= before)


def test_sessions_are_spread_over_the_workers() -> None:
    relay = Relay(2)
    calls = [Call(relay) for _ in range(6)]
    assert [worker["sessions"] for worker in relay.stats()] == [3, 3]
    for call in calls:
        call.close()
    relay.close()


@pytest.mark.parametrize(
    ("rtp_address", "rtcp_address"),
    [
        (("::1", 4000), None),
        (("example.org", 4000), None),
        (("127.0.0.1", 0), None),
        (("127.0.0.1", 65536), None),
        (("127.0.0.1", 4000), ("127.0.0.1", -1)),
        (("127.0.0.\u0661", 4000), None),
    ],
)
def test_a_bad_remote_changes_nothing(
    call: Call, rtp_address: tuple[str, int], rtcp_address: tuple[str, int] | None
) -> None:
    with pytest.raises((ValueError, OverflowError)):
        call.session.set_remote(AGENT, rtp_address, rtcp_address)
    call.through(AGENT, rtp(b"1"))
    call.through(PROSPECT, rtp(b"2"))


@pytest.mark.parametrize(
    "arguments",
    [{"workers": 0}, {"workers": 65}, {"ring_bytes": 100}, {"ring_bytes": 1 << 40},
     {"gather": 0}, {"gather": 1025}, {"backend": "kqueue"}],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Relay(**arguments)
    with pytest.raises(ValueError, match="side"):
        Session.detached().drain(2)
    with pytest.raises(ValueError, match="payload type"):
        Session.detached().set_capture_types(0, [128])


def test_descriptors_that_are_no_sockets() -> None:
    relay, before = Relay(1), open_fds()
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="socket"):
        relay.open((reading, writing), (os.dup(reading), os.dup(writing)))
    assert open_fds() == before
    relay.close()


def test_the_bell_rings_for_a_key(relay: Relay) -> None:
    call, quiet = Call(relay).connect(), Call(relay).connect()
    for made in (call, quiet):
        made.session.set_event_types(PROSPECT, [101])
    assert not select.select([relay.events_fd], [], [], 0)[0]
    call.through(PROSPECT, rtp(b"audio"))
    for packet in telephone_events(11, timestamp=160):
        call.through(PROSPECT, packet)
    quiet.through(PROSPECT, rtp(b"audio"))
    call.settle(PROSPECT)
    assert select.select([relay.events_fd], [], [], PATIENCE)[0]
    assert relay.rung_sessions() == [call.session]
    assert not select.select([relay.events_fd], [], [], 0)[0]
    events, lost = call.session.take_events(PROSPECT)
    assert [event[:4] for event in events] == [(11, False, 160, 160), (11, True, 800, 160)]
    assert (lost, relay.rung_sessions()) == (0, [])
    call.close()
    quiet.close()
    relay.close()
    assert relay.events_fd == -1
    assert relay.rung_sessions() == []
