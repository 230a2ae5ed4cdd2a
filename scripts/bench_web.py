"""What the web costs: paging a million calls on SQLite and PostgreSQL, and the API's latency beside 200 recorded calls.

Paging: times of pages of 50 through the store, for each way of filtering, walked by cursor. Latency: a gateway of its
own process with 200 SIPp calls that are recorded in stereo, requests one after the other; beside it the same requests
without calls. Nothing is asserted here.

    python -m scripts.bench_web [--quick] [--calls N] [--rows N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text

from gateway.store.history import CallFilter
from gateway.store.store import Store
from scripts.bench_calls import HOST, BenchError, free_port, running, wait_for_port
from scripts.postgres import Postgres

PAGE_TARGET_MS = 50.0
PASSWORD = "a password of the benchmark"
START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = """
[sip]
listen = ["udp:{host}:{port}"]
[recording]
root = "{directory}/recordings"
[store]
url = "sqlite:///{directory}/bench.db"
[telemetry]
log_level = "warning"
[web]
listen = "{host}:{web}"
page = {page}
[[trunks]]
name = "callee"
host = "{host}"
port = {callee}
[[peers]]
name = "caller"
networks = ["127.0.0.0/8"]
organization = "bench"
user = "boss"
"""
CALLER = """<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="talks">
<send retrans="500"><![CDATA[
INVITE sip:+12125550123@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:boss@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
To: <sip:+12125550123@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:boss@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000

]]></send>
<recv response="100" optional="true"></recv>
<recv response="180" optional="true"></recv>
<recv response="183" optional="true"></recv>
<recv response="200" rrs="true"></recv>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:boss@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
To: <sip:+12125550123@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<nop><action><exec rtp_stream="{audio},-1,0"/></action></nop>
<recv request="BYE"></recv>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"""


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one kind of request."""

    name: str
    count: int
    p50: float
    p99: float
    worst: float


def timed(name: str, seconds: list[float]) -> Timed:
    """Percentiles of what was measured."""
    found = sorted(1000 * value for value in seconds)
    return Timed(
        name, len(found), statistics.median(found), found[min(len(found) - 1, int(0.99 * len(found)))], found[-1]
    )


# -- paging ------------------------------------------------------------------------------------------------------------

_CALLS = """
INSERT INTO calls (call_id, organization, user_id, direction, prospect_number, prospect_e164, agent_number,
  sip_call_id, started_at, answered_at, ended_at, termination, sip_status, ended_by, mode, reason)
SELECT 'c' || n, CASE WHEN n % 10 = 0 THEN 'other' ELSE 'bench' END, 1 + n % 50, 'outbound',
  '+1212' || (5550000 + n % 9000), '+1212' || (5550000 + n % 9000), 'agent', 's' || n, {time}, {time}, {time},
  'completed', 200, 'agent', CASE WHEN n % 1000 = 1 THEN 'none' WHEN n % 3 = 0 THEN 'agent_only' ELSE 'both' END,
  CASE WHEN n % 100003 = 1 THEN 'engine_error' WHEN n % 3 = 0 THEN 'prospect_two_party' ELSE 'one_party' END
FROM {numbers}
"""
_RECORDINGS = """
INSERT INTO recordings (call_id, organization, outcome, mode, path, channels, sample_rate, samples, size_bytes,
  problems, finished_at)
SELECT 'c' || n, CASE WHEN n % 10 = 0 THEN 'other' ELSE 'bench' END, 'complete', 'both', 'c' || n, 2, 8000, 80000,
  320044, '[]', {time} FROM {numbers}
"""
_DIALECT = {
    "sqlite": {
        "numbers": "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s)",
        "time": "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', '+' || (n * 20) || ' seconds')",
    },
    "postgresql": {
        "numbers": "generate_series(1, {rows}) AS s(n)",
        "time": "timestamptz '2026-01-01 00:00Z' + n * interval '20 seconds'",
    },
}


def fill(connection: Connection, rows: int) -> None:
    """A million calls with their recordings, nine of ten of one organization, 50 users."""
    words = {key: value.format(rows=rows) for key, value in _DIALECT[connection.dialect.name].items()}
    for slug in ("bench", "other"):
        connection.execute(text(f"INSERT INTO organizations VALUES ('{slug}', '{slug}', '2026-01-01 00:00:00')"))
    for number in range(1, 51):
        connection.execute(
            text("INSERT INTO users (id, username, organization, display_name, role, enabled, created_at) VALUES "
                 "(:n, :u, 'bench', '', 'agent', true, '2026-01-01 00:00:00')"), {"n": number, "u": f"user{number}"},
        )  # fmt: skip
    for statement in (_CALLS, _RECORDINGS):
        connection.execute(text(statement.format(**words)))


FILTERS: dict[str, dict[str, Any]] = {
    "all": {}, "one user": {"user": "user7"}, "one number": {"number": "+12125550123"}, "mode none": {"mode": "none"},
    "mode both": {"mode": "both"}, "a rare reason": {"reason": "engine_error"},
    "a user's mode": {"user": "user7", "mode": "agent_only"}, "a user without calls": {"user": "nobody"},
    "a day": {"since": START + timedelta(days=100), "until": START + timedelta(days=101)},
    "a rare reason of a user": {"user": "user7", "reason": "engine_error"},
}  # fmt: skip


async def page_times(url: str, rows: int, pages: int) -> list[Timed]:
    """Fill a new database and walk it."""
    store = await Store.open(url)
    await store._database.write(lambda connection: fill(connection, rows))
    await store._database.write(lambda connection: connection.execute(text("ANALYZE")))  # as autovacuum does
    found = []
    for name, given in FILTERS.items():
        for what in ("calls", "recordings"):
            cursor, seconds = None, []
            for _ in range(pages):
                began = time.perf_counter()
                page = await getattr(store.history, what)(CallFilter("bench", **given), limit=50, cursor=cursor)
                seconds.append(time.perf_counter() - began)
                if (cursor := page.next) is None:
                    break
            found.append(timed(f"{what}: {name}", seconds))
    middle = (START + timedelta(seconds=20 * rows // 2)).isoformat() + "~c1"
    seconds = []
    for _ in range(pages):
        began = time.perf_counter()
        await store.history.calls(CallFilter("bench"), limit=50, cursor=middle)
        seconds.append(time.perf_counter() - began)
    found.append(timed("calls: from the middle on", seconds))
    await store.close()
    return found


# -- latency -----------------------------------------------------------------------------------------------------------


async def requests(api: httpx.AsyncClient, rounds: int) -> list[Timed]:
    """Each kind of request in turn, one at a time."""
    kinds: dict[str, tuple[str, str, Any]] = {
        "who am I": ("GET", "/session", None), "settings": ("GET", "/policy", None),
        "live calls": ("GET", "/calls/live", None), "calls, a page of 50": ("GET", "/calls", None),
        "recordings, a page of 50": ("GET", "/recordings", None), "try a number": ("POST", "/policy/trial",
        {"number": "+16035550123"}), "change a setting": ("PUT", "/policy/inbound_enabled", {"value": True}),
        "audit log": ("GET", "/audit", None),
    }  # fmt: skip
    measured: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        for name, (method, path, body) in kinds.items():
            if name == "change a setting":
                body = {"value": number % 2 == 0}
            began = time.perf_counter()
            answer = await api.request(method, path, json=body)
            measured[name].append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise BenchError(f"{path}: {answer.status_code} {answer.text}")
    everything = [value for values in measured.values() for value in values]
    return [timed(name, values) for name, values in measured.items()] + [timed("all requests", everything)]


@contextlib.contextmanager
def gateway(directory: Path, callee: int) -> Iterator[tuple[str, int]]:
    """A gateway with API and one admin; gives the API's address and the SIP port."""
    port, web = free_port(), free_port()
    settings = directory / "bench.toml"
    settings.write_text(
        SETTINGS.format(host=HOST, port=port, callee=callee, directory=directory, web=web, page="false")
    )
    twoparty = [sys.executable, "-m", "gateway.cli"]
    user = ["user", "add", "boss", "--organization", "bench", "--create-organization", "--country", "US", "--state",
            "TX", "--role", "admin", "--no-password", "--web-password-stdin", "--config", str(settings)]  # fmt: skip
    subprocess.run([*twoparty, *user], input=f"{PASSWORD}\n".encode(), check=True, stdout=subprocess.DEVNULL)
    with running([*twoparty, "serve", "--config", str(settings)], directory, "gateway") as process:
        wait_for_port(port, process)
        yield f"http://{HOST}:{web}/api/v1", port


@contextlib.asynccontextmanager
async def logged_in(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as api:
        answer = await api.post("/session", json={"username": "boss", "password": PASSWORD})
        api.headers["x-csrf-token"] = answer.json()["csrf_token"]
        yield api


async def latency(calls: int, rounds: int) -> tuple[list[Timed], list[Timed], int]:
    """Without calls, with them, and how many calls were being recorded then."""
    with tempfile.TemporaryDirectory(prefix="twoparty-bench-") as name:
        directory = Path(name)
        (directory / "tone.ulaw").write_bytes(bytes(range(128, 256)) * 625)
        scenario = directory / "caller.xml"
        scenario.write_text(CALLER.replace("{audio}", str(directory / "tone.ulaw")))
        callee = free_port()
        answering = ["sipp", "-sn", "uas", "-i", HOST, "-p", str(callee), "-rtp_echo", "-mi", HOST, "-mp",
                     str(free_port() & ~1), "-nostdin"]  # fmt: skip
        with gateway(directory, callee) as (url, port), running(answering, directory, "callee") as uas:
            wait_for_port(callee, uas)
            async with logged_in(url) as api:
                idle = await requests(api, rounds)
                calling = ["sipp", f"{HOST}:{port}", "-sf", str(scenario), "-i", HOST, "-p", str(free_port()),
                           "-mi", HOST, "-r", "20", "-l", str(calls), "-m", str(calls), "-mp",
                           "36000", "-nostdin"]  # fmt: skip
                with running(calling, directory, "caller"):
                    recorded = await settled(api, calls)
                    busy = await requests(api, rounds)
        return idle, busy, recorded


async def settled(api: httpx.AsyncClient, calls: int) -> int:
    """Wait until the calls are up; how many are captured on both sides."""
    deadline = time.monotonic() + 60
    while True:
        live = (await api.get("/calls/live")).json()
        both = sum(1 for call in live if call["agent_captured"] and call["prospect_captured"])
        if both >= calls or time.monotonic() > deadline:
            return both
        await asyncio.sleep(0.5)


# -- the tables --------------------------------------------------------------------------------------------------------


def shown(title: str, columns: dict[str, list[Timed]], console: Console) -> None:
    """One row a kind, one group of columns a place."""
    table = Table("milliseconds", title=title, title_justify="left")
    for name in columns:
        for figure in ("p50", "p99", "max"):
            table.add_column(f"{name}\n{figure}", justify="right")
    for row in zip(*columns.values(), strict=True):
        cells = [f"{value:.1f}" for item in row for value in (item.p50, item.p99, item.worst)]
        table.add_row(row[0].name, *cells)
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 rows, 20 calls")
    parser.add_argument("--rows", type=int, default=1_000_000, help="calls in the store (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=200, help="recorded calls beside the API (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    given = parser.parse_args(arguments)
    rows, calls, rounds = (50_000, 20, 10) if given.quick else (given.rows, given.calls, 125)
    try:
        with tempfile.TemporaryDirectory(prefix="twoparty-bench-") as directory:
            sqlite = asyncio.run(page_times(f"sqlite:///{directory}/bench.db", rows, 40))
        with Postgres() as server:
            postgresql = asyncio.run(page_times(server.new_database(), rows, 40))
        idle, busy, recorded = asyncio.run(latency(calls, rounds))
    except (BenchError, RuntimeError, OSError) as error:
        print(f"bench_web: {error}", file=sys.stderr)
        return 1
    if given.json:
        figures = {"sqlite": sqlite, "postgresql": postgresql, "idle": idle, "busy": busy}
        print(json.dumps({name: [asdict(item) for item in items] for name, items in figures.items()}, indent=2))
        return 0
    console = Console()
    shown(f"Pages of 50 of {rows:,} calls (target: below {PAGE_TARGET_MS:.0f} ms)",
          {"SQLite": sqlite, "PostgreSQL": postgresql}, console)  # fmt: skip
    shown(f"API requests, one at a time, {recorded} calls being recorded in stereo",
          {"no calls": idle, f"{recorded} calls": busy}, console)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
