"""Digest authentication of agents against the store's credentials (RFC 3261 §22)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from gateway.sip.digest import MD5, SHA256, DigestServer, Ha1Pair, Verdict
from gateway.sip.errors import SipError
from gateway.sip.message import Request
from gateway.store.directory import Directory
from gateway.store.records import SipCredential

_NAMES = {401: ("authorization", "www-authenticate"), 407: ("proxy-authorization", "proxy-authenticate")}


class Authenticator:
    """Challenges, and finds the agent who answered."""

    def __init__(
        self, realm: str, secret: bytes, clock: Callable[[], float] = time.monotonic, *,
        algorithms: Sequence[str] = (SHA256, MD5),
    ) -> None:  # fmt: skip
        self._server = DigestServer(realm, secret, algorithms=algorithms)
        self._clock = clock

    async def verify(self, request: Request, status: int, directory: Directory) -> SipCredential:
        """The credential that ``request`` proves. Raises SipError: ``status`` (401 or 407) with challenges, whether
        there was no answer, a stale one or a wrong one (who guesses learns nothing)."""
        answer, _ = _NAMES[status]
        found = self._server.credentials(request.all(answer))
        if found is None:
            raise self._challenge(status)
        credential = await directory.credential(found.user)
        stored = None
        if credential is not None and credential.agent.enabled:
            stored = Ha1Pair(credential.ha1_md5, credential.ha1_sha256)
        verdict = self._server.verify(found, request.method, request.uri, stored, self._clock())
        if verdict is Verdict.OK and credential is not None:
            return credential
        if verdict is Verdict.STALE:
            raise self._challenge(status, stale=True)
        raise self._challenge(status)

    def _challenge(self, status: int, *, stale: bool = False) -> SipError:
        name = _NAMES[status][1]
        values = self._server.challenges(self._clock(), secrets.token_hex(8), stale=stale)
        return SipError(status, headers=tuple((name, value) for value in values))
