"""Who is calling, and where a call goes: peers, trunks with failover, registered agents."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from gateway.sip.flow import Flow
from gateway.sip.uri import bracketed, escaped_user

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Names = Callable[[Flow], frozenset[str]]
"""Whom the verified client certificate at the far side of a flow names."""
_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_REMEMBERED = 16_384
REST_SECONDS = 30.0
"""How long a trunk that failed is tried after the others."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """A carrier. ``networks``: where its inbound calls come from, beside its own host and port."""

    name: str
    host: str
    port: int
    transport: str = "udp"
    username: str = ""
    password: str = ""
    networks: tuple[Network, ...] = ()
    caller_id: str = ""
    certificate_names: frozenset[str] = frozenset()
    """Lower case. What comes from it must come over TLS, with a client certificate that has one of these names."""
    max_calls: int = 0
    """At once, both ways together; 0: no limit."""
    calls_per_second: float = 0.0
    """From it; 0: no limit."""

    @property
    def line(self) -> str:
        """Whose lines its calls take."""
        return f"trunk {self.name}"

    def sends(self, flow: Flow, names: Names) -> bool:
        """Whether what came over ``flow`` came from this carrier."""
        if self.certificate_names and not self.certificate_names & names(flow):
            return False
        if (flow.remote_host, flow.remote_port) == (self.host, self.port):
            return True
        if self.certificate_names and not self.networks:
            return True
        return contains(self.networks, flow.remote_host)


@dataclass(frozen=True, slots=True)
class Peer:
    """Agents believed by their address: a PBX or a dialer. ``user`` empty: From names the agent."""

    name: str
    networks: tuple[Network, ...]
    organization: str
    user: str = ""
    trust_state_header: bool = False
    host: str = ""
    """Where calls for its agents go; empty: only to registered contacts."""
    port: int = 5060
    transport: str = "udp"
    certificate_names: frozenset[str] = frozenset()
    """As for ``Trunk``, and what follows too."""
    max_calls: int = 0
    calls_per_second: float = 0.0

    @property
    def line(self) -> str:
        return f"peer {self.name}"

    def sends(self, flow: Flow, names: Names) -> bool:
        """Whether what came over ``flow`` came from this peer."""
        if self.certificate_names and not self.certificate_names & names(flow):
            return False
        return contains(self.networks, flow.remote_host)


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send an INVITE to."""

    uri: str
    """The Request-URI."""
    host: str
    port: int
    transport: str
    flow: Flow | None = None
    """The flow of a registered contact, reused as it is."""
    trunk: Trunk | None = None

    def secured(self) -> Target:
        """The same place by a SIPS URI (RFC 5630 §3.1.3: without ``transport=tls``)."""
        uri = self.uri.replace("sip:", "sips:", 1) if self.uri.startswith("sip:") else self.uri
        return replace(self, uri=uri.replace(";transport=tls", ""))


class Locator(Protocol):
    """Where registered agents are."""

    def contacts(self, username: str, now: float) -> list[Target]:
        """The live contacts, the most recent first."""


@lru_cache(maxsize=16384)
def contains(networks: tuple[Network, ...], host: str) -> bool:
    """Whether an IP literal lies in one of the networks; remembered, as the same hosts call again."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)


class Router:
    """The configured trunks and peers. Keeps which trunk failed lately, and who UDP addresses were found to be."""

    def __init__(self, trunks: Iterable[Trunk], peers: Iterable[Peer], names: Names = lambda flow: frozenset()) -> None:
        self.trunks = tuple(trunks)
        self.peers = tuple(peers)
        self._names = names
        self._found: dict[tuple[str, int], tuple[Trunk | None, Peer | None]] = {}
        self._failed: dict[str, float] = {}

    def trunk_of(self, flow: Flow) -> Trunk | None:
        """The carrier that ``flow`` comes from, if it does."""
        return self._who(flow)[0]

    def peer_of(self, flow: Flow) -> Peer | None:
        """The peer that ``flow`` comes from, the first in the order of the settings."""
        return self._who(flow)[1]

    def _who(self, flow: Flow) -> tuple[Trunk | None, Peer | None]:
        """Looked up once for an address, where no certificate has a say."""
        if flow.transport != "udp":
            return self._look_up(flow)
        address = flow.remote_host, flow.remote_port
        found = self._found.get(address)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[address] = self._look_up(flow)
        return found

    def _look_up(self, flow: Flow) -> tuple[Trunk | None, Peer | None]:
        peer = next((peer for peer in self.peers if peer.sends(flow, self._names)), None)
        return self._carrier(flow, peer), peer

    def _carrier(self, flow: Flow, peer: Peer | None) -> Trunk | None:
        for trunk in self.trunks:
            if trunk.sends(flow, self._names):
                return trunk
        if peer is None and not contains(_LOOPBACK, flow.remote_host):
            same_host = (t for t in self.trunks if t.host == flow.remote_host and not t.certificate_names)
            return next(same_host, None)
        return None

    def sender(self, flow: Flow) -> Trunk | Peer | None:
        """The carrier or peer that ``flow`` comes from; a carrier first, as calls are identified."""
        trunk, peer = self._who(flow)
        return trunk or peer

    def trunk_targets(self, number: str, now: float) -> list[Target]:
        """Every trunk for a dialed number: in the configured order, those that failed lately last."""
        resting = {name for name, at in self._failed.items() if now - at < REST_SECONDS}
        ordered = sorted(self.trunks, key=lambda trunk: trunk.name in resting)
        return [trunk_target(trunk, number) for trunk in ordered]

    def failed(self, trunk: Trunk, now: float) -> None:
        """``trunk`` answered 503 or nothing."""
        self._failed[trunk.name] = now

    def worked(self, trunk: Trunk) -> None:
        self._failed.pop(trunk.name, None)


def trunk_target(trunk: Trunk, number: str) -> Target:
    """``number`` as it was dialed, unescaped."""
    uri = _uri(number, trunk.host, trunk.port, trunk.transport)
    return Target(uri, trunk.host, trunk.port, trunk.transport, trunk=trunk)


def peer_target(peer: Peer, username: str) -> Target:
    return Target(_uri(username, peer.host, peer.port, peer.transport), peer.host, peer.port, peer.transport)


def _uri(user: str, host: str, port: int, transport: str) -> str:
    parameter = "" if transport == "udp" else f";transport={transport}"
    return f"sip:{escaped_user(user)}@{bracketed(host)}:{port}{parameter}"
