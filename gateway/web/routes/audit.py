"""The audit log: who changed what; exported as JSON lines, and verified."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from gateway.store.audit import AuditEntry
from gateway.web.auth import WebDep, need
from gateway.web.context import Web
from gateway.web.problems import responses
from gateway.web.roles import Principal, Scope

router = APIRouter(tags=["audit log"])

Reader = Annotated[Principal, Depends(need(Scope.AUDIT_READ))]
_PAGE = 1000


class Entry(BaseModel):
    """One change."""

    sequence: int
    at: datetime
    actor: str
    action: str
    target: str
    before: Any
    after: Any
    previous: str = Field(description="SHA-256 of the entry before")
    hash: str = Field(description="SHA-256 of this entry as canonical JSON without ``hash``")


class EntryPage(BaseModel):
    """Entries, the newest first."""

    items: list[Entry]
    next: int | None = Field(description="``before`` of the page that follows; null: there is none")


class Verification(BaseModel):
    """Whether the chain is whole."""

    intact: bool
    sequence: int | None = Field(default=None, description="The first broken entry")
    problem: str | None = None


def entry_view(entry: AuditEntry) -> Entry:
    """An entry for the API."""
    return Entry(**{name: getattr(entry, name) for name in Entry.model_fields})


@router.get("/audit", responses=responses(), operation_id="list_audit_log")
async def list_entries(
    web: WebDep, principal: Reader, limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Entries older than this sequence")] = None,
) -> EntryPage:  # fmt: skip
    """Who changed what, the newest first."""
    found = await web.store.audit.entries(principal.organization, limit=limit + 1, before=before)
    items = [entry_view(entry) for entry in found[:limit]]
    return EntryPage(items=items, next=items[-1].sequence if len(found) > limit else None)


@router.get(
    "/audit/export", operation_id="export_audit_log", response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}, **responses()},
)  # fmt: skip
async def export_entries(web: WebDep, principal: Reader) -> StreamingResponse:
    """The whole log as JSON lines, in order; ``twoparty audit --log FILE`` verifies it."""
    name = f'attachment; filename="{principal.organization}-audit.jsonl"'
    return StreamingResponse(
        _lines(web, principal.organization), media_type="application/jsonl", headers={"content-disposition": name}
    )


async def _lines(web: Web, organization: str) -> AsyncIterator[bytes]:
    after = 0
    while found := await web.store.audit.entries(organization, limit=_PAGE, after=after):
        yield b"".join(json.dumps(entry.as_dict(), ensure_ascii=False).encode() + b"\n" for entry in found)
        after = found[-1].sequence


@router.get("/audit/verification", responses=responses(), operation_id="verify_audit_log")
async def verify_entries(web: WebDep, principal: Reader) -> Verification:
    """Check the chain of hashes."""
    broken = await web.store.audit.verify(principal.organization)
    if broken is None:
        return Verification(intact=True)
    return Verification(intact=False, sequence=broken.sequence, problem=broken.problem)
