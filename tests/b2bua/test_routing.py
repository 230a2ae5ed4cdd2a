"""Who sends, and where a call goes, without sockets."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.b2bua.routing import REST_SECONDS, Peer, Router, Trunk
from gateway.b2bua.termination import Kind, kind_of_status, status_for_caller
from gateway.sip.flow import Flow


def flow(host: str, port: int = 5060) -> Flow:
    return Flow("udp", "192.0.2.1", 5060, host, port)


ONE = Trunk("one", "198.51.100.1", 5060)
TWO = Trunk("two", "198.51.100.2", 5060, networks=(ip_network("203.0.113.0/24"),))
PBX = Peer("pbx", (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")), "acme")


def test_a_trunk_is_known_by_its_address_or_networks() -> None:
    router = Router([ONE, TWO], [PBX])
    assert router.trunk_of(flow("198.51.100.1")) is ONE
    assert router.trunk_of(flow("198.51.100.1", 40000)) is ONE, "carriers send from other ports too"
    assert router.trunk_of(flow("203.0.113.77", 9999)) is TWO
    assert router.trunk_of(flow("10.1.2.3")) is None


def test_a_peer_is_known_by_its_networks() -> None:
    router = Router([ONE], [PBX])
    assert router.peer_of(flow("10.9.8.7")) is PBX
    assert router.peer_of(flow("2001:db8::5")) is PBX
    assert router.peer_of(flow("11.0.0.1")) is None


def test_on_loopback_a_trunk_is_known_by_its_port() -> None:
    """Everything has one address there; agents must not be taken for the carrier."""
    router = Router([Trunk("local", "127.0.0.1", 5080)], [])
    assert router.trunk_of(flow("127.0.0.1", 5080)) is not None
    assert router.trunk_of(flow("127.0.0.1", 5062)) is None


def test_a_trunk_that_failed_rests_and_comes_back() -> None:
    router = Router([ONE, TWO], [])
    router.failed(ONE, 100.0)
    assert [t.trunk.name for t in router.trunk_targets("+1", 100.0) if t.trunk] == ["two", "one"]
    assert [t.trunk.name for t in router.trunk_targets("+1", 100.0 + REST_SECONDS) if t.trunk] == ["one", "two"]
    router.failed(ONE, 200.0)
    router.worked(ONE)
    assert [t.trunk.name for t in router.trunk_targets("+1", 201.0) if t.trunk] == ["one", "two"]


def test_ipv6_and_tcp_show_in_the_request_uri() -> None:
    router = Router([Trunk("six", "2001:db8::1", 5070, "tcp")], [])
    assert router.trunk_targets("+15551234", 0.0)[0].uri == "sip:+15551234@[2001:db8::1]:5070;transport=tcp"


@pytest.mark.parametrize("status", range(300, 700))
def test_every_failure_has_a_kind_and_a_status_for_the_caller(status: int) -> None:
    assert isinstance(kind_of_status(status), Kind)
    told = status_for_caller(status)
    assert 400 <= told < 700
    assert told not in (401, 407), "a challenge is between us and who sent it"


def test_who_an_address_is_stays_the_same_by_udp_and_is_asked_anew_where_certificates_count() -> None:
    names: set[str] = set()
    carrier = Trunk("carrier", "192.0.2.1", 5061, "tls", certificate_names=frozenset({"carrier.example"}))
    pbx = Peer("pbx", (ip_network("198.51.100.0/24"),), "acme")
    router = Router([carrier], [pbx], lambda flow: frozenset(names))
    tls = Flow("tls", "127.0.0.1", 5061, "192.0.2.1", 5061)
    assert router.sender(tls) is None
    names.add("carrier.example")
    assert router.sender(tls) is carrier
    names.clear()
    assert router.sender(tls) is None
    for host, expected in (("198.51.100.7", pbx), ("203.0.113.1", None)) * 2:
        assert router.sender(flow(host)) is expected
