"""Dialogs (RFC 3261 §12): the state that two user agents share, and the requests that go within it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.sip.errors import ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.message import MAGIC_COOKIE, Message, Request, Response, tagged
from gateway.sip.uri import NameAddr, Uri

DialogId = tuple[str, str, str]
"""Call-ID, local tag, remote tag."""


@dataclass(slots=True)
class Dialog:
    """One dialog as one side sees it. ``local`` and ``remote`` are From/To values as on the wire, with tags."""

    call_id: str
    local: str
    local_tag: str
    remote: str
    remote_tag: str
    flow: Flow
    """Where the dialog came about; used when the next hop is no IP literal (names are never resolved here)."""
    remote_target: str
    route_set: tuple[str, ...] = ()
    local_cseq: int = 0
    remote_cseq: int | None = None

    @property
    def id(self) -> DialogId:
        return self.call_id, self.local_tag, self.remote_tag

    @classmethod
    def of_server(cls, request: Request, local_tag: str, flow: Flow) -> Dialog:
        """The UAS side (§12.1.1): the route set is the Record-Route in the order received. Raises ParseError.

        RFC 2543 knew calls without Contact: there From is the target."""
        contact = request.contact
        if contact is None and not request.via.branch.startswith(MAGIC_COOKIE):
            contact = NameAddr("", request.from_.uri_text)
        if contact is None:
            raise ParseError("Missing Contact")
        return cls(
            call_id=request.call_id,
            local=tagged(request.get("to") or "", local_tag),
            local_tag=local_tag,
            remote=request.get("from") or "",
            remote_tag=request.from_.tag or "",
            flow=flow,
            remote_target=_target(contact),
            route_set=tuple(request.values("record-route")),
            remote_cseq=request.cseq[0],
        )._checked()

    @classmethod
    def of_client(cls, request: Request, response: Response, flow: Flow) -> Dialog:
        """The UAC side (§12.1.2): the route set is the Record-Route reversed. Raises ParseError."""
        contact = response.contact
        return cls(
            call_id=request.call_id,
            local=request.get("from") or "",
            local_tag=request.from_.tag or "",
            remote=response.get("to") or "",
            remote_tag=response.to.tag or "",
            flow=flow,
            remote_target=_target(contact) if contact is not None else request.uri,
            route_set=tuple(reversed(response.values("record-route"))),
            local_cseq=request.cseq[0],
        )._checked()

    def _checked(self) -> Dialog:
        """A SIPS next hop takes TLS, and there is no way back from it (§12.1.1, §26.2.2). Raises ParseError."""
        if not self.flow.secure and self.next_hop().secure:
            raise ParseError("SIPS takes TLS")
        return self

    def request(self, method: str, *, cseq: int | None = None) -> Request:
        """A request within the dialog (§12.2.1.1). ``cseq`` is given for ACK, else the next one is taken."""
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri, routes = self._routing()
        headers = [("max-forwards", "70"), *(("route", route) for route in routes)]
        headers += [("from", self.local), ("to", self.remote), ("call-id", self.call_id), ("cseq", f"{cseq} {method}")]
        return Request(method, uri, headers)

    def _routing(self) -> tuple[str, tuple[str, ...]]:
        """Request-URI and Route values: loose routing, or RFC 2543 strict routing where the first hop lacks ``lr``."""
        if not self.route_set:
            return self.remote_target, ()
        first = NameAddr.parse(self.route_set[0]).uri
        if first.param("lr") is not None:
            return self.remote_target, self.route_set
        return str(first), (*self.route_set[1:], f"<{self.remote_target}>")

    def next_hop(self) -> Uri:
        """Where requests go: the first route, else the remote target. Raises ParseError."""
        return NameAddr.parse(self.route_set[0]).uri if self.route_set else Uri.parse(self.remote_target)

    def accept(self, request: Request) -> None:
        """Check and take the CSeq of a request within the dialog (§12.2.2): a lower one is answered 500."""
        number = request.cseq[0]
        if self.remote_cseq is not None and number <= self.remote_cseq:
            raise SipError(500, "CSeq out of order")
        self.remote_cseq = number

    def refresh_target(self, message: Message) -> None:
        """A target refresh (§12.2): the Contact of a re-INVITE or UPDATE or its 2xx. A bad one changes nothing."""
        try:
            if (contact := message.contact) is not None and (self.flow.secure or not contact.uri.secure):
                self.remote_target = _target(contact)
        except ParseError:
            return


def _target(contact: NameAddr) -> str:
    """The Contact's URI, checked to be usable as a Request-URI; its headers and method are left out (§19.1.1)."""
    uri = contact.uri
    if uri.scheme not in ("sip", "sips"):
        raise ParseError("Bad Contact")
    return contact.uri_text.partition("?")[0] if uri.headers else contact.uri_text
