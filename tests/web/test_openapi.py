"""schemathesis over the whole OpenAPI, on real sockets and both databases: no 5xx, and answers as described."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.web.roles import Scope
from gateway.web.server import WebServer
from tests.support.web_client import Site
from tests.web.test_calls_and_recordings import real_recording

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
async def server(site_on_both: Site) -> AsyncIterator[WebServer]:
    await real_recording(site_on_both, "call-1")
    made = WebServer(site_on_both.app, "127.0.0.1", 0)
    await made.start()
    yield made
    await made.stop()


async def schemathesis(server: WebServer, headers: dict[str, str], *arguments: str) -> str:
    """Run it; what it printed. Its findings fail the test."""
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "st"), "run", f"{server.url}/openapi.json", "--checks", CHECKS,
        "--max-examples", "5", "--continue-on-failure", "--no-shrink",
        "--generation-database", "none", "--seed", "7", "--suppress-health-check", "all", "--warnings", "off",
        "--request-timeout", "20", "--no-color", *given, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(240):
        printed = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, printed[-20_000:]
    return printed


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # the stricter of the two
async def test_an_admin_with_a_session(site_on_both: Site, server: WebServer) -> None:
    browser = await site_on_both.browser("boss")
    headers = {"Cookie": f"twoparty_session={browser.http.cookies['twoparty_session']}",
               "X-CSRF-Token": browser.http.headers["x-csrf-token"]}  # fmt: skip
    printed = await schemathesis(
        server, headers, "--exclude-operation-id", "log_out", "--exclude-operation-id", "change_password",
        "--exclude-operation-id", "log_in", "--phases", "examples,coverage",
    )  # fmt: skip
    tested = re.search(r"Tested:\s+(\d+)", printed)
    assert tested is not None, printed
    assert int(tested[1]) >= 33


async def test_a_machine_with_a_token(site_on_both: Site, server: WebServer) -> None:
    browser = await site_on_both.browser("boss")
    scopes = [scope for scope in Scope if scope != Scope.RECORDING_ENABLE]
    token = await browser.send("POST", "/tokens", {"name": "all", "scopes": scopes}, 201)
    await schemathesis(server, {"Authorization": f"Bearer {token['secret']}"}, "--phases", "examples,fuzzing")
