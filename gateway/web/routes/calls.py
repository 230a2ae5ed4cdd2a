"""Calls, live and past, and how each was decided. Agents see their own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway.b2bua.calls import LiveCall
from gateway.b2bua.keys import Control
from gateway.store.history import CallFilter, CallRow
from gateway.web.auth import WebDep, need
from gateway.web.context import Web
from gateway.web.problems import Problem, responses
from gateway.web.roles import Principal, Scope
from gateway.web.types import CallIdPath, Cursor, Limit, NumberQuery, TextQuery, Time

router = APIRouter(tags=["calls"])

Reader = Annotated[Principal, Depends(need(Scope.CALLS_READ))]
Controller = Annotated[Principal, Depends(need(Scope.CALLS_CONTROL))]
Mode = Annotated[Literal["both", "agent_only", "none"] | None, Query(description="What the last decision allows")]


class LiveCallView(BaseModel):
    """A call in progress."""

    call_id: str
    username: str
    direction: str
    prospect_number: str
    agent_number: str
    started_at: datetime
    answered_at: datetime | None
    mode: str | None = Field(description="The decision; null: recording is off in the gateway's settings")
    reason: str | None
    agent_captured: bool = Field(description="Audio of the agent's leg is being captured now")
    prospect_captured: bool = Field(description="Audio of the prospect's leg is being captured now")
    paused: bool = Field(description="Capture is paused; it goes on, as far as the decision allows, when resumed")


class CallView(BaseModel):
    """A call with its last decision and what became of its recording; what is not there (yet) is null."""

    call_id: str
    username: str | None
    direction: str
    prospect_number: str
    agent_number: str
    sip_call_id: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    seconds: float | None = Field(description="Connected")
    termination: str | None
    sip_status: int | None
    ended_by: str | None
    detail: str | None
    trunk: str | None
    mode: str | None
    reason: str | None
    quality: dict[str, Any] | None = Field(
        description="Loss, jitter, round trip and MOS (ITU-T G.107) by leg and direction; null: not answered"
    )
    outcome: str | None = Field(description="Of the recording")


class CallPage(BaseModel):
    """Calls, the newest first."""

    items: list[CallView]
    next: str | None = Field(description="``cursor`` of the page that follows; null: there is none")


class StoredDecision(BaseModel):
    """A decision as it was stored, with its trace."""

    mode: str
    reason: str
    rule: int
    policy_version: int | None
    jurisdictions_version: str
    decided_at: datetime
    facts: dict[str, Any]
    answer: dict[str, Any]


def call_view(row: CallRow) -> CallView:
    """A stored call for the API."""
    return CallView(**{name: getattr(row, name) for name in CallView.model_fields})


def live_calls(web: Web, principal: Principal) -> list[LiveCall]:
    """The live calls that somebody may see, for API and page alike."""
    own = principal.own_only
    return [call for call in web.live.live(principal.organization) if own is None or call.username == own]


def call_filter(
    principal: Principal, user: str | None = None, number: str | None = None, mode: str | None = None,
    reason: str | None = None, since: datetime | None = None, until: datetime | None = None,
) -> CallFilter:  # fmt: skip
    """What is asked for, of what may be seen. Agents see their own calls, whatever they ask for."""
    return CallFilter(principal.organization, principal.own_only or user, number, mode, reason, since, until)


def control_live(web: Web, principal: Principal, call_id: str, control: Control) -> LiveCall:
    """Pause or resume the capture of a call, for API and page alike. Raises Problem 404."""
    seen = any(call.call_id == call_id for call in live_calls(web, principal))
    found = web.live.control_capture(principal.organization, call_id, control, principal.actor) if seen else None
    if found is None:
        raise Problem(404, "there is no such call now")
    return found


def live_view(call: LiveCall) -> LiveCallView:
    """A live call for the API."""
    return LiveCallView(**{name: getattr(call, name) for name in LiveCallView.model_fields})


@router.get("/calls/live", responses=responses(), operation_id="list_live_calls")
async def list_live(web: WebDep, principal: Reader) -> list[LiveCallView]:
    """Calls in progress, the newest first, with what is being captured of each leg."""
    return [live_view(call) for call in live_calls(web, principal)]


@router.post("/calls/{call_id}/pause", responses=responses(404), operation_id="pause_capture")
async def pause_capture(web: WebDep, principal: Controller, call_id: CallIdPath) -> LiveCallView:
    """Capture nothing of a live call until it is resumed: the recording is silence of the same length meanwhile."""
    return live_view(control_live(web, principal, call_id, Control.PAUSE))


@router.post("/calls/{call_id}/resume", responses=responses(404), operation_id="resume_capture")
async def resume_capture(web: WebDep, principal: Controller, call_id: CallIdPath) -> LiveCallView:
    """Capture a paused call again, as far as its decision allows."""
    return live_view(control_live(web, principal, call_id, Control.RESUME))


@router.get("/calls", responses=responses(), operation_id="list_calls")
async def list_calls(
    web: WebDep, principal: Reader, user: TextQuery = None, number: NumberQuery = None, mode: Mode = None,
    reason: TextQuery = None, since: Time = None, until: Time = None, limit: Limit = 50, cursor: Cursor = None,
) -> CallPage:  # fmt: skip
    """Calls, the newest first, a page at a time."""
    wanted = call_filter(principal, user, number, mode, reason, since, until)
    page = await web.store.history.calls(wanted, limit=limit, cursor=cursor)
    return CallPage(items=[call_view(row) for row in page.rows], next=page.next)


@router.get("/calls/{call_id}", responses=responses(404), operation_id="read_call")
async def read_call(web: WebDep, principal: Reader, call_id: CallIdPath) -> CallView:
    """One call."""
    return call_view(await web.store.history.call(principal.organization, call_id, principal.own_only))


@router.get("/calls/{call_id}/decisions", responses=responses(404), operation_id="list_decisions")
async def list_decisions(web: WebDep, principal: Reader, call_id: CallIdPath) -> list[StoredDecision]:
    """How a call was decided, in order: the first at its setup, others where a change of policy narrowed it."""
    await web.store.history.call(principal.organization, call_id, principal.own_only)
    return [
        StoredDecision(**{name: row[name] for name in StoredDecision.model_fields})
        for row in await web.store.history.decisions(call_id)
    ]
