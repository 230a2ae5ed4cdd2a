"""Who an INVITE comes from, and so whose policy holds and who is the prospect."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.b2bua.authentication import Authenticator
from gateway.b2bua.routing import Peer, Router, Trunk
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Request
from gateway.sip.uri import Uri
from gateway.store.directory import Directory
from gateway.store.records import Agent

STATE_HEADER = "x-prospect-state"
_CONTROL = re.compile(r"[\0-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a call from its INVITE: the agent, the prospect's number, the direction."""

    agent: Agent
    direction: str
    """``outbound`` (the agent calls) or ``inbound`` (the prospect calls)."""
    prospect_number: str
    agent_number: str
    flow: Flow
    trunk: Trunk | None = None
    state_header: str | None = None
    """X-Prospect-State, from a peer that is trusted with it; None from everybody else."""


class Identifier:
    """Trunks by address, agents by address or digest, in this order."""

    def __init__(self, directory: Directory, router: Router, authenticator: Authenticator) -> None:
        self._directory = directory
        self._router = router
        self._authenticator = authenticator

    async def identify(self, request: Request, flow: Flow) -> Caller:
        """Raises SipError: 407 to be authenticated, 403 not allowed, 404 nobody has that number."""
        trunk = self._router.trunk_of(flow)
        if trunk is not None:
            return await self._inbound(request, flow, trunk)
        peer = self._router.peer_of(flow)
        if peer is not None and request.get("proxy-authorization") is None:
            agent = await self._of_peer(request, peer)
        else:
            agent = (await self._authenticator.verify(request, 407, self._directory, flow)).agent
            await self._check_from(request, agent)
        trusted = peer is not None and peer.trust_state_header and peer.organization == agent.organization
        return Caller(
            agent=agent,
            direction="outbound",
            prospect_number=dialed_user(request),
            agent_number=caller_user(request),
            flow=flow,
            state_header=request.get(STATE_HEADER) if trusted else None,
        )

    async def _check_from(self, request: Request, agent: Agent) -> None:
        """From may say the agent's own name, a number of the organization, or nothing (RFC 3323); who proved to be one
        agent may not speak for another, nor show a number that is not theirs."""
        said = caller_user(request)
        if said in ("", "anonymous", agent.username):
            return
        owner = await self._directory.agent_by_did(said)
        if owner is None or owner.organization != agent.organization:
            raise SipError(403, "From is not yours")

    async def _inbound(self, request: Request, flow: Flow, trunk: Trunk) -> Caller:
        number = dialed_user(request)
        agent = await self._directory.agent_by_did(number) if number else None
        if agent is None and number:
            agent = await self._directory.agent(number)
        if agent is None or not agent.enabled:
            raise SipError(404)
        return Caller(agent, "inbound", caller_user(request), number, flow, trunk)

    async def _of_peer(self, request: Request, peer: Peer) -> Agent:
        username = peer.user or caller_user(request)
        agent = await self._directory.agent(username) if username else None
        if agent is None or not agent.enabled or agent.organization != peer.organization:
            raise SipError(403, f"No agent of {peer.organization} in From")
        return agent


def dialed_user(request: Request) -> str:
    """The number or name in the Request-URI, "" when it has none."""
    return _printable(Uri.parse(request.uri).username)


def caller_user(request: Request) -> str:
    """The number or name in From, "" when it has none (an anonymous caller)."""
    try:
        return _printable(request.from_.uri.username)
    except SipError:
        return ""


def _printable(name: str) -> str:
    """``name``, unless an escape hid a control character in it: that is nobody's, and must get nowhere."""
    return "" if _CONTROL.search(name) else name
