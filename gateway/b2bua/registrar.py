"""The registrar (RFC 3261 §10): where agents' softphones are. Bindings live in memory; softphones renew them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.b2bua.routing import Target
from gateway.sip.errors import ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Request
from gateway.sip.uri import NameAddr, Uri, default_port, is_ip

DEFAULT_SECONDS = 3600
MIN_SECONDS = 30
MAX_SECONDS = 7200
MAX_CONTACTS = 10


@dataclass(frozen=True, slots=True)
class Binding:
    """One contact of an agent. ``expires_at`` in seconds of the caller's clock."""

    uri: str
    flow: Flow
    expires_at: float
    call_id: str
    cseq: int

    def target(self) -> Target:
        """Where to send an INVITE: the contact's own address, or where the REGISTER came from when the contact's host
        is another one (NAT) or it came over a connection."""
        uri = Uri.parse(self.uri)
        request_uri = str(replace(uri, headers="")) if uri.headers else self.uri  # none in a Request-URI (§19.1.1)
        host, port = self.flow.remote_host, self.flow.remote_port
        if not self.flow.reliable and is_ip(uri.host) and uri.host == host:
            port = uri.port or default_port(self.flow.transport)
        return Target(request_uri, host, port, self.flow.transport, flow=self.flow.to(host, port))


class Registrar:
    """All bindings, by user name."""

    def __init__(self) -> None:
        self._bindings: dict[str, dict[str, Binding]] = {}

    def contacts(self, username: str, now: float) -> list[Target]:
        """The live contacts, the most recent first."""
        live = list(self._live(username, now).values())
        return [binding.target() for binding in sorted(live, key=lambda b: b.expires_at, reverse=True)]

    def _live(self, username: str, now: float) -> dict[str, Binding]:
        found = {uri: b for uri, b in self._bindings.get(username, {}).items() if b.expires_at > now}
        if found:
            self._bindings[username] = found
        else:
            self._bindings.pop(username, None)
        return found

    def lifetime(self, username: str, flow: Flow, now: float) -> float:
        """For how many seconds more there is a binding at the far side of ``flow``."""
        ends = [binding.expires_at for binding in self._live(username, now).values() if binding.flow == flow]
        return max(ends, default=now) - now

    def register(self, username: str, request: Request, flow: Flow, now: float) -> tuple[tuple[str, str], ...]:
        """Take an authenticated REGISTER; gives the headers of its 200. Raises SipError (400, 423, 500); then nothing
        has changed (§10.3 step 7)."""
        bindings = dict(self._live(username, now))
        values = request.values("contact")
        expires = _seconds(request.get("expires"), DEFAULT_SECONDS)
        call_id, cseq = request.call_id, request.cseq[0]
        if values == ["*"]:
            if request.get("expires") is None or expires != 0:
                raise SipError(400, "Contact * needs Expires 0")
            self._check_order(bindings, list(bindings), call_id, cseq)
            bindings = {}
        else:
            for contact, seconds in self._contacts(values, expires, flow):
                self._check_order(bindings, [contact], call_id, cseq)
                bindings.pop(contact, None)
                if seconds:
                    bindings[contact] = Binding(contact, flow, now + seconds, call_id, cseq)
        if len(bindings) > MAX_CONTACTS:
            raise SipError(403, "Too many contacts")
        if bindings:
            self._bindings[username] = bindings
        else:
            self._bindings.pop(username, None)
        return tuple(("contact", f"<{b.uri}>;expires={max(1, int(b.expires_at - now))}") for b in bindings.values())

    @staticmethod
    def _contacts(values: list[str], expires: int, flow: Flow) -> Iterator[tuple[str, int]]:
        for value in values:
            contact = NameAddr.parse(value)
            uri = contact.uri
            if uri.scheme not in ("sip", "sips") or (uri.secure and not flow.secure):
                raise ParseError("Bad Contact")
            own = contact.param("expires")
            seconds = expires if own is None else _seconds(own, expires)
            if 0 < seconds < MIN_SECONDS:
                raise SipError(423, headers=(("min-expires", str(MIN_SECONDS)),))
            yield contact.uri_text, min(seconds, MAX_SECONDS)

    @staticmethod
    def _check_order(bindings: dict[str, Binding], uris: list[str], call_id: str, cseq: int) -> None:
        """§10.3 step 7: a REGISTER that was overtaken changes nothing."""
        for uri in uris:
            old = bindings.get(uri)
            if old is not None and old.call_id == call_id and cseq <= old.cseq:
                raise SipError(500, "CSeq out of order")


def _seconds(text: str | None, default: int) -> int:
    """delta-seconds; a malformed value counts as the default (§20.19)."""
    if text is None or not text.strip().isdecimal():
        return default
    return min(int(text), 2**32 - 1)
