"""The guard in front of the user agent: who is a stranger, what a stranger may do, when new calls are refused.

Three kinds of far ends: *configured* ones (trunks, peers, trusted networks), those that have *proved* themselves lately
(they answered a challenge, or knew an unguessable tag or branch that was sent to them), and strangers.

A stranger may do two things, REGISTER and INVITE, and gets one thing, a challenge: sent without keeping anything, once
for each request, and over UDP never larger than the request, so that nobody can be made a target by writing a false
source address. Everything else from strangers (scanners, OPTIONS, requests of dialogs that there are not, rubbish) is
dropped unanswered. The nonce of a challenge is good for the address that it was sent to; a request that answers it
comes from somebody who receives there. Only such proven failures count towards a ban, so that a false source address
bans nobody. Where somebody behind an address has proved himself, strikes count by port: one bad phone does not ban an
office.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.guard.emergency import dials_one_of
from gateway.guard.overload import Overload
from gateway.guard.scanners import TOOLS, Scanners
from gateway.guard.tables import Bans, Buckets, Expiring
from gateway.sip.digest import DigestServer
from gateway.sip.errors import Dropped, SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Request

CHALLENGES: Final = {
    "REGISTER": (401, "authorization", "www-authenticate"),
    "INVITE": (407, "proxy-authorization", "proxy-authenticate"),
}
"""Status, where the answer stands and where the challenge stands (RFC 3261 §22.2, §22.3)."""
_PROVEN_SECONDS: Final = 600.0
_CONNECTED_SECONDS: Final = 4 * 3600.0
"""A connection is kept through a long call in which nothing is said on it."""
_CACHED: Final = 50_000
_OFFICE: Final = 8
"""So many times as many failures ban strangers at an address where somebody has proved himself."""

End = tuple[str, str, int]
"""Transport, host and port of a far end."""


@dataclass(frozen=True, slots=True)
class Known:
    """A configured far end: its name, and how many new calls a second it may send (0: no limit)."""

    name: str
    calls_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """What strangers may do, by their address; rates a second, and how much at once."""

    requests: float = 50.0
    requests_at_once: float = 300.0
    challenges: float = 10.0
    challenges_at_once: float = 100.0
    ban_failures: int = 8
    """So many wrong answers to challenges within ``ban_window`` seconds ban for ``ban_seconds``."""
    ban_window: float = 120.0
    ban_seconds: float = 600.0
    scanners: tuple[str, ...] = TOOLS
    emergency: frozenset[str] = field(default_factory=frozenset)
    overload: float = 0.3
    """Seconds of lateness from which on new calls are refused; 0: never."""


class GuardEvents(Protocol):
    """Where counts go."""

    def dropped(self, reason: str, flow: Flow) -> None:
        """Something was not answered."""

    def refused(self, reason: str, flow: Flow) -> None:
        """A new call was refused to keep a limit."""

    def banned(self, end: str, flow: Flow) -> None:
        """Somebody was banned for guessing passwords."""

    def failed(self, flow: Flow) -> None:
        """A wrong answer to a challenge."""


class Guard:
    """Pure: time and entropy are given in. ``configured`` tells who a far end is by the settings, None: nobody."""

    def __init__(
        self,
        limits: GuardLimits,
        configured: Callable[[Flow], Known | None],
        digest: DigestServer,
        token: Callable[[], str],
        events: GuardEvents,
    ) -> None:
        self.limits = limits
        self.overload = Overload(limits.overload or float("inf"))
        self._configured = configured
        self._digest = digest
        self._token = token
        self._events = events
        self._scanners = Scanners(limits.scanners)
        self._requests: Buckets[str] = Buckets(limits.requests, limits.requests_at_once)
        self._challenges: Buckets[str] = Buckets(limits.challenges, limits.challenges_at_once)
        self._calls: dict[str, Buckets[str]] = {}
        self._bans: Bans[str] = Bans(limits.ban_failures, limits.ban_window, limits.ban_seconds)
        self._offices: Bans[str] = Bans(limits.ban_failures * _OFFICE, limits.ban_window, limits.ban_seconds)
        self._proven: Expiring[End] = Expiring()
        self._neighbours: Expiring[str] = Expiring()
        self._cache: dict[End, Known | None] = {}

    # -- who somebody is ---------------------------------------------------------------------------------------------

    def who(self, flow: Flow) -> Known | None:
        """The configured far end, None for everybody else."""
        if flow.transport == "tls":
            return self._configured(flow)  # it may depend on the connection's certificate
        end = flow.transport, flow.remote_host, flow.remote_port
        try:
            return self._cache[end]
        except KeyError:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            known = self._cache[end] = self._configured(flow)
            return known

    def known(self, flow: Flow, now: float) -> bool:
        """Whether the far end is configured or has proved itself lately."""
        if self.who(flow) is not None:
            return True
        return self._proven.has((flow.transport, flow.remote_host, flow.remote_port), now)

    def proved(self, flow: Flow, now: float, seconds: float = 0.0) -> None:
        """The far end has shown that it receives what is sent to it; for ``seconds``, if that is long."""
        seconds = max(seconds, _CONNECTED_SECONDS if flow.reliable else _PROVEN_SECONDS)
        self._proven.put((flow.transport, flow.remote_host, flow.remote_port), now + seconds)

    def welcome(self, flow: Flow, now: float) -> bool:
        """Whether it may connect."""
        return self.who(flow) is not None or not self._is_banned(flow, now)

    def _is_banned(self, flow: Flow, now: float) -> bool:
        if not len(self._bans):
            return False
        host = flow.remote_host
        if self._bans.banned(f"{host} {flow.remote_port}", now):
            return True
        if not self._bans.banned(host, now) and not self._offices.banned(host, now):
            return False
        return not self._proven.has((flow.transport, host, flow.remote_port), now)

    # -- what it may send --------------------------------------------------------------------------------------------

    def admits(self, flow: Flow, now: float) -> bool:
        """Whether a message is looked at at all; asked before it is parsed."""
        if self.who(flow) is not None:
            return True
        if self._is_banned(flow, now):
            self._events.dropped("banned", flow)
            return False
        if self._proven.has((flow.transport, flow.remote_host, flow.remote_port), now):
            return True
        if not self._requests.take(flow.remote_host, now):
            self._events.dropped("rate", flow)
            return False
        return True

    def screen(self, request: Request, flow: Flow, now: float) -> SipError | None:
        """Why a request outside any dialog and transaction is not to be taken; it is answered statelessly, or not at
        all (``Dropped``)."""
        known = self.who(flow)
        if known is None and not self._proven.has((flow.transport, flow.remote_host, flow.remote_port), now):
            refusal = self._screen_stranger(request, flow, now)
            if refusal is not None:
                if isinstance(refusal, Dropped):
                    self._events.dropped(refusal.reason, flow)
                return refusal
        if request.method != "INVITE" or dials_one_of(request, self.limits.emergency):
            return None
        return self._screen_call(known, flow, now)

    def _screen_call(self, known: Known | None, flow: Flow, now: float) -> SipError | None:
        if self.overload.share and self.overload.shed():
            self._events.refused("overload", flow)
            return SipError(503, headers=(("retry-after", str(self.overload.retry_after)),))
        if known is not None and known.calls_per_second:
            bucket = self._calls.get(known.name)
            if bucket is None:
                rate = known.calls_per_second
                bucket = self._calls[known.name] = Buckets(rate, max(1.0, rate))
            if not bucket.take(known.name, now):
                self._events.refused("peer rate", flow)
                return SipError(503, headers=(("retry-after", "2"),))
        return None

    def _screen_stranger(self, request: Request, flow: Flow, now: float) -> SipError | None:
        if self._scanners.sent(request):
            return Dropped("scanner")
        if request.method not in CHALLENGES:
            return Dropped("stranger")
        status, answer, challenge = CHALLENGES[request.method]
        found = self._digest.credentials(request.all(answer))
        if found is not None and self._digest.recognises(found, now, flow.remote_host):
            return None
        if not self._challenges.take(flow.remote_host, now):
            return Dropped("probing")
        values = self._digest.challenges(
            now, self._token()[:5], stale=found is not None, source=flow.remote_host, brief=True
        )
        return SipError(status, headers=tuple((challenge, value) for value in values))

    # -- what came of it ---------------------------------------------------------------------------------------------

    def authenticated(self, flow: Flow, now: float, seconds: float = 0.0) -> None:
        """It gave the right answer to a challenge; for ``seconds`` it is registered."""
        host = flow.remote_host
        self.proved(flow, now, seconds)
        self._neighbours.put(host, now + max(seconds, _PROVEN_SECONDS))
        self._challenges.refill(host)
        self._requests.refill(host)
        for key in (host, f"{host} {flow.remote_port}"):
            self._bans.forgive(key, now)

    def failed(self, flow: Flow, now: float) -> None:
        """It answered a challenge that was sent to it, wrongly."""
        self._events.failed(flow)
        if self.who(flow) is not None:
            return
        host = flow.remote_host
        office = self._neighbours.has(host, now)
        key = f"{host} {flow.remote_port}" if office else host
        if self._bans.strike(key, now):
            self._proven.drop((flow.transport, host, flow.remote_port))
            self._events.banned(key, flow)
        if office and self._offices.strike(host, now):
            self._events.banned(host, flow)

    def too_large(self, flow: Flow) -> None:
        """An answer to a stranger was larger than what was asked, and so was not sent."""
        self._events.dropped("amplification", flow)

    def banned_count(self, now: float) -> int:
        """How many are banned now."""
        return self._bans.count(now) + self._offices.count(now)
