"""The FastAPI application: routes, errors, headers."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.web import problems
from gateway.web.context import Web
from gateway.web.problems import Problem
from gateway.web.routes import audit, calls, jurisdictions, lists, policy, recordings, sessions, users

PREFIX = "/api/v1"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=()",
    "content-security-policy": "frame-ancestors 'none'; object-src 'none'; base-uri 'self'",
}


_MODULES = (sessions, policy, users, lists, calls, recordings, jurisdictions, audit)


def api_routes() -> list[tuple[str, frozenset[str]]]:
    """Every route of the API: its path, and the methods that it takes."""
    return [
        (PREFIX + route.path, frozenset(route.methods or ()))
        for module in _MODULES
        for route in module.router.routes
        if isinstance(route, APIRoute)
    ]


def make_app(web: Web) -> FastAPI:
    """The application on ``web``, without the page."""
    app = FastAPI(
        title="Twoparty", version="1", summary="Consent-gated call recording",
        description="Errors are problem details (RFC 9457). Browsers have a session and send X-CSRF-Token with "
        "changes; machines send an API token.",
        openapi_url="/openapi.json", docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.web = web
    problems.install(app)
    for module in _MODULES:
        app.include_router(module.router, prefix=PREFIX)
    _describe_problems(app)
    _refuse_the_rest(app)
    app.add_middleware(_Headers)
    return app


class _Headers:
    """Adds the headers that every answer has, where it does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(PREFIX):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, sending)


def _describe_problems(app: FastAPI) -> None:
    """Put ProblemDetail among the schemas: every error refers to it."""
    make = app.openapi

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = make()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["ProblemDetail"] = problems.ProblemDetail.model_json_schema()
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _refuse_the_rest(app: FastAPI) -> None:
    """Under ``/api`` and ``/openapi.json``, what is not a route is a problem (404, 405), not a page."""
    routes = [(compile_path(path)[0], methods) for path, methods in api_routes()]

    async def nothing(request: Request) -> Response:
        path = request.url.path
        allowed = {method for pattern, methods in routes if pattern.match(path) for method in methods}
        if path == "/openapi.json":
            allowed = {"GET"}
        if allowed:
            methods = ", ".join(sorted(allowed))
            raise Problem(405, f"this takes {methods}", headers={"allow": methods})
        raise Problem(404, "there is no such thing in this API")

    for path in ("/api/{rest:path}", "/openapi.json"):
        app.add_api_route(path, nothing, methods=_METHODS, include_in_schema=False)
