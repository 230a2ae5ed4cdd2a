"""Where a guard stands before the user agent, and the answers that keep no state (RFC 3261 §8.2.7)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

from gateway.sip.errors import SipError
from gateway.sip.flow import Flow, reply_flow, stamp_via
from gateway.sip.message import Request, compact


class RequestGuard(Protocol):
    """Who may send what. Nothing here raises."""

    def admits(self, flow: Flow, now: float) -> bool:
        """Whether a message is looked at at all; asked before it is parsed."""

    def known(self, flow: Flow, now: float) -> bool:
        """Whether the far end is configured, or has proved lately that it receives what is sent to it."""

    def proved(self, flow: Flow, now: float) -> None:
        """It knew something unguessable that was sent to it."""

    def screen(self, request: Request, flow: Flow, now: float) -> SipError | None:
        """Why a request outside any dialog and transaction is not taken; ``Dropped``: it is not answered."""

    def too_large(self, flow: Flow) -> None:
        """An answer was not sent because it was larger than the request."""


def stateless_tag(request: Request, key: bytes) -> str:
    """A To tag that is the same for each repetition of a request (§8.2.7)."""
    text = "\0".join((request.get("call-id") or "", request.get("from") or "", request.via.branch, request.method))
    return blake2b(text.encode("latin-1", "replace"), key=key, digest_size=4).hexdigest()


def stateless_answer(
    request: Request, flow: Flow, error: SipError, key: bytes, largest: int | None
) -> tuple[Flow, bytes] | None:
    """Where to and what to answer to ``request``, and then forget. With ``largest``, in as short a spelling as it
    takes: with compact names, then without reason phrase and Content-Length (a datagram needs none, §18.3), at last
    with one challenge alone, the last one. None if it does not fit even so.

    Raises ParseError if the Via can't be used (then nobody can be told)."""
    stamp_via(request, flow)
    response = request.response(error.status, error.reason, to_tag=stateless_tag(request, key), headers=error.headers)
    back, data = reply_flow(request, flow), bytes(response)
    if largest is None or len(data) <= largest:
        return back, data
    data = compact(response)
    if len(data) > largest:
        response.reason = ""
        data = compact(response, length=False)
    challenges = [header for header in error.headers if header[0].endswith("-authenticate")]
    if len(data) > largest and len(challenges) > 1:
        response.headers = [header for header in response.headers if header not in challenges[:-1]]
        data = compact(response, length=False)
    return (back, data) if len(data) <= largest else None
