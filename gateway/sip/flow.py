"""Where a message came from and where one goes to: the transport, our side of it and the far side."""

from __future__ import annotations

from typing import NamedTuple

from gateway.sip.message import Request
from gateway.sip.uri import is_ip


class Flow(NamedTuple):
    """One pair of transport addresses; hosts are IP literals without brackets, ports 1..65535.

    For TCP and TLS the local port is the listener's; the connection is found by the remote address, or opened.
    """

    transport: str
    """``udp``, ``tcp`` or ``tls``."""
    local_host: str
    local_port: int
    remote_host: str
    remote_port: int

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"

    @property
    def secure(self) -> bool:
        """What a ``sips`` URI asks for (RFC 3261 §26.2.2)."""
        return self.transport == "tls"

    def to(self, host: str, port: int) -> Flow:
        """The same local side towards another far side."""
        return Flow(self.transport, self.local_host, self.local_port, host, port)


def stamp_via(request: Request, flow: Flow) -> None:
    """Write where the request really came from into its top Via (RFC 3261 §18.2.1, RFC 3581 §4)."""
    via = request.via
    wants_port = via.param("rport") is not None
    stamped = via
    if wants_port or via.host != flow.remote_host:
        stamped = stamped.with_param("received", flow.remote_host)
    if wants_port:
        stamped = stamped.with_param("rport", str(flow.remote_port))
    if stamped is not via:
        request.replace_top_via(stamped)


def reply_flow(request: Request, flow: Flow) -> Flow:
    """Where responses to ``request`` go (RFC 3261 §18.2.2, RFC 3581 §4): never to a host that only a header names."""
    if flow.reliable or request.via.param("rport") is not None:
        return flow
    return flow.to(flow.remote_host, request.via.port or 5060)


def ip_or_none(host: str) -> str | None:
    """``host`` if it is an IP literal; names are not resolved here."""
    return host if is_ip(host) else None
