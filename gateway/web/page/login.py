"""The login form and logging out: plain HTML, for there is no session yet."""

from __future__ import annotations

import hmac
from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.web.auth import COOKIE, WebDep, log_in, principal_of_session, same_origin
from gateway.web.problems import Problem
from gateway.web.routes.sessions import set_cookie

router = APIRouter(include_in_schema=False)

_FORM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log in · Twoparty</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/page.css"></head>
<body class="tp-plain"><main class="tp-login"><h1>Twoparty</h1><p>Consent-gated call recording</p>{problem}
<form method="post" action="/login"><label for="username">User name</label>
<input id="username" name="username" autocomplete="username" required autofocus value="{username}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button></form></main></body></html>"""


def _page(problem: str = "", username: str = "", status: int = 200) -> HTMLResponse:
    told = f'<p role="alert" class="tp-alert">{escape(problem)}</p>' if problem else ""
    return HTMLResponse(
        _FORM.format(problem=told, username=escape(username)), status, headers={"cache-control": "no-store"}
    )


@router.get("/login")
async def form(request: Request, web: WebDep) -> Response:
    """The form; whoever is logged in already goes on."""
    if await principal_of_session(web, request.cookies.get(COOKIE)) is not None:
        return RedirectResponse("/", 303)
    return _page()


@router.post("/login")
async def submit(
    request: Request, web: WebDep, username: Annotated[str, Form(max_length=255)],
    password: Annotated[str, Form(max_length=1024)],
) -> Response:  # fmt: skip
    """Log in and go to the page."""
    if not same_origin(request):
        return _page("The form was sent from another site.", status=403)
    source = request.client.host if request.client else "unknown"
    try:
        if "\x00" in username:
            raise Problem(401, "user name or password is wrong")
        secret, _ = await log_in(web, username, password, source)
    except Problem as problem:
        return _page(problem.detail[:1].upper() + problem.detail[1:] + ".", username, problem.status)
    answer = RedirectResponse("/", 303)
    set_cookie(answer, request, web, secret)
    return answer


@router.post("/logout")
async def logout(request: Request, web: WebDep, csrf: Annotated[str, Form(max_length=255)] = "") -> Response:
    """End the session."""
    secret = request.cookies.get(COOKIE)
    principal = await principal_of_session(web, secret)
    if secret and principal is not None and same_origin(request):
        if not hmac.compare_digest(csrf.encode(), (principal.csrf_token or "").encode()):
            return _page("That was not your form.", status=403)
        await web.store.access.close_session(secret)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer
