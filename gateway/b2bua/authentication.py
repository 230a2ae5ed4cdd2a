"""Agents prove themselves with digest (RFC 3261 §22, RFC 8760): to the registrar, and for calls."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

from gateway.sip.digest import DigestServer, Ha1Pair, Verdict
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Request
from gateway.store.directory import Directory
from gateway.store.records import SipCredential

_NAMES = {401: ("authorization", "www-authenticate"), 407: ("proxy-authorization", "proxy-authenticate")}


class Watch(Protocol):
    """Who is told what came of it, to ban those who guess."""

    def authenticated(self, flow: Flow, now: float) -> None:
        """The right answer."""

    def failed(self, flow: Flow, now: float) -> None:
        """A wrong answer to a challenge that was sent to where it came from."""


class Authenticator:
    """Challenges, and finds the agent who answered."""

    def __init__(
        self, server: DigestServer, clock: Callable[[], float] = time.monotonic, watch: Watch | None = None
    ) -> None:
        self._server = server
        self._clock = clock
        self._watch = watch

    async def verify(self, request: Request, status: int, directory: Directory, flow: Flow) -> SipCredential:
        """The credential that ``request``, which came over ``flow``, proves. Raises SipError: ``status`` (401 or 407)
        with challenges, whether there was no answer, a stale one or a wrong one (who guesses learns nothing)."""
        answer, _ = _NAMES[status]
        source = flow.remote_host
        found = self._server.credentials(request.all(answer))
        if found is None:
            raise self._challenge(status, source)
        credential = await directory.credential(found.user)
        stored = None
        if credential is not None and credential.agent.enabled:
            stored = Ha1Pair(credential.ha1_md5, credential.ha1_sha256)
        now = self._clock()
        verdict = self._server.verify(found, request.method, request.uri, stored, now, source)
        if verdict is Verdict.OK and credential is not None:
            if self._watch is not None:
                self._watch.authenticated(flow, now)
            return credential
        if verdict is Verdict.STALE:
            raise self._challenge(status, source, stale=True)
        if self._watch is not None and self._server.recognises(found, now, source):
            self._watch.failed(flow, now)
        raise self._challenge(status, source)

    def _challenge(self, status: int, source: str, *, stale: bool = False) -> SipError:
        name = _NAMES[status][1]
        values = self._server.challenges(self._clock(), secrets.token_hex(8), stale=stale, source=source)
        return SipError(status, headers=tuple((name, value) for value in values))
