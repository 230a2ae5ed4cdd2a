"""Errors as problem details (RFC 9457): every answer that is an error is ``application/problem+json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from gateway.consent.policy import PolicyError, SettingRefused
from gateway.store.errors import Conflict, NotFound, StoreError

log = structlog.get_logger("web")

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error for whoever made the request."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        """``members``: further members of the problem object, such as ``errors``."""
        super().__init__(detail)
        self.status, self.detail, self.headers, self.members = status, detail, dict(headers or {}), members


class ProblemDetail(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = Field(default=None, description="What is wrong, one item a place")


class _ProblemResponse(Response):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=str).encode("ascii")


def answer(problem: Problem) -> Response:
    """The response of a problem."""
    try:
        title = HTTPStatus(problem.status).phrase
    except ValueError:
        title = "Error"
    body = {"type": "about:blank", "title": title, "status": problem.status, "detail": problem.detail}
    return _ProblemResponse(body | problem.members, problem.status, headers=problem.headers)


def of_exception(error: Exception) -> Problem:
    """What an exception of the parts below means to the client."""
    match error:
        case Problem():
            return error
        case SettingRefused():
            return Problem(409, str(error), setting=error.key)
        case PolicyError():
            return Problem(422, str(error), setting=error.key)
        case NotFound():
            return Problem(404, str(error).partition(";")[0])
        case Conflict():
            return Problem(409, str(error).partition(";")[0])
        case StoreError() if str(error).startswith("database:"):
            log.error("database trouble", error=str(error))
            return Problem(503, "the database can't be reached or refuses", headers={"retry-after": "2"})
        case StoreError():
            return Problem(422, str(error))
        case HTTPException():
            return Problem(error.status_code, str(error.detail), headers=error.headers)
        case RequestValidationError():
            return Problem(422, "the request is not as the API wants it", errors=_errors(error.errors()))
        case ValidationError():  # of the page's own forms
            errors = _errors(error.errors())
            return Problem(422, "; ".join(f"{item['where']}: {item['problem']}" for item in errors), errors=errors)
        case UnicodeError():
            return Problem(422, "the request has text that is not valid Unicode")
    log.error("defect in the web", exc_info=error)
    return Problem(500, "a defect of the gateway; it is in its log")


def _errors(errors: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"where": ".".join(map(str, item["loc"])), "problem": item["msg"]} for item in errors]


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` as a problem."""

    async def handle(_request: Request, error: Exception) -> Response:
        return answer(of_exception(error))

    for kind in (Problem, PolicyError, StoreError, HTTPException, RequestValidationError, UnicodeError, Exception):
        app.add_exception_handler(kind, handle)


_TOLD = {
    400: "Not a request of this API",
    401: "No session or token, or not a good one",
    403: "Not allowed to this role or token, or no CSRF token",
    404: "Not there, or of another organization",
    409: "Refused as things are now",
    413: "Too large",
    415: "Not of a type that this takes",
    416: "No such range",
    422: "Not as the API wants it",
    429: "Too many attempts",
    503: "Too busy, or the database can't be reached",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/ProblemDetail"}
    return {
        status: {"description": _TOLD[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in (400, 401, 403, 422, *statuses, 429, 503)
    }
