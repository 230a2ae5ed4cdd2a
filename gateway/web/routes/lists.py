"""The dialing list: which state each number's owner is in, uploaded as CSV."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from gateway.web.auth import WebDep, need
from gateway.web.context import Web
from gateway.web.imports import import_list
from gateway.web.jobs import Busy
from gateway.web.problems import Problem, responses
from gateway.web.roles import Principal, Scope
from gateway.web.types import PRINTABLE

router = APIRouter(tags=["dialing list"])

Reader = Annotated[Principal, Depends(need(Scope.LISTS_READ))]
Writer = Annotated[Principal, Depends(need(Scope.LISTS_WRITE))]


_TYPES = ("text/csv", "text/plain", "application/csv", "application/octet-stream", "application/vnd.ms-excel")


class ListView(BaseModel):
    """The organization's dialing list."""

    numbers: int


class Listed(BaseModel):
    """A number of the list."""

    number: str
    state: str


class BadRow(BaseModel):
    """A row that can't be imported."""

    line: int = Field(description="From 1, the header included")
    column: str
    problem: str


class Imported(BaseModel):
    """What an import found."""

    stored: bool = Field(description="False: rows were bad, and bad_rows=refuse: nothing was changed")
    good: int
    bad: int
    bad_rows: list[BadRow] = Field(description="The first of them")


@router.get("/lists", responses=responses(), operation_id="read_list")
async def read_list(web: WebDep, principal: Reader) -> ListView:
    """How many numbers the list has."""
    return ListView(numbers=(await web.store.lists.count(principal.organization)).get(principal.organization, 0))


@router.get("/lists/{number}", responses=responses(404), operation_id="read_listed_number")
async def read_number(
    web: WebDep, principal: Reader, number: Annotated[str, PathParameter(max_length=64, pattern=PRINTABLE)]
) -> Listed:
    """What the list says of a number, in any writing."""
    found = await web.store.lists.state(principal.organization, number)
    if found is None:
        raise Problem(404, f"{number} is not on the list")
    return Listed(number=found[0], state=found[1])


@router.post(
    "/lists", responses=responses(413, 415), operation_id="import_list",
    openapi_extra={"requestBody": {"required": True, "content": {"text/csv": {"schema": {
        "type": "string", "example": "number,state\n+16035550123,NH\n"}}}}},
)  # fmt: skip
async def upload_list(
    request: Request, web: WebDep, principal: Writer,
    bad_rows: Annotated[Literal["refuse", "skip"], Query(description="Import nothing, or the rest")] = "refuse",
    mode: Annotated[Literal["merge", "replace"], Query(description="Add to the list, or replace it")] = "merge",
) -> Imported:  # fmt: skip
    """Import a CSV file with the columns ``number`` and ``state`` (among others), as the request's body.

    It is streamed to the disk and read beside the gateway, so that a million rows need no memory here. Of a number that
    comes twice, the last row counts; a row without a state is bad. Bad rows are named with their line.
    """
    kind = request.headers.get("content-type", "text/csv").partition(";")[0].strip().lower()
    if kind not in (
        "text/csv",
        "text/plain",
        "application/csv",
        "application/octet-stream",
        "application/vnd.ms-excel",
    ):
        raise Problem(415, f"the body must be text/csv, not {kind[:80]}")
    with tempfile.NamedTemporaryFile(prefix="twoparty-list-", suffix=".csv") as file:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > web.max_upload_bytes:
                raise Problem(413, f"at most {web.max_upload_bytes:,} bytes")
            await asyncio.to_thread(file.write, chunk)
        return Imported(**await import_file(web, principal, file, bad_rows == "skip", mode == "replace"))


async def import_file(
    web: Web, principal: Principal, file: IO[bytes], keep_good: bool, replace: bool
) -> dict[str, Any]:
    """Import what a temporary file has; for API and page alike."""
    file.flush()
    try:
        return await web.jobs.run(
            import_list, web.store_url, principal.organization, str(Path(file.name)), "the file", replace, keep_good,
            principal.actor,
        )  # fmt: skip
    except Busy:
        raise Problem(503, "other imports and simulations run; try again", headers={"retry-after": "10"}) from None


@router.delete("/lists", responses=responses(), operation_id="clear_list")
async def clear_list(web: WebDep, principal: Writer) -> ListView:
    """Remove every number of the list; gives how many there were."""
    return ListView(numbers=await web.store.lists.clear(principal.organization, by=principal.actor))
