"""The transports on the event loop that the gateway is served with (uvloop), and on asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from scripts.phone import Phone

Run = Callable[[Coroutine[Any, Any, None]], None]


async def call(host: str, transport: str) -> None:
    """A call that the far side hangs up: connections are opened, accepted and reused."""
    near, far = await Phone.open(host, transport), await Phone.open(host, transport)
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async with asyncio.timeout(20):
        made = await near.call(f"sip:far@{far.address};transport={transport}")
        taken = await far.incoming.get()
        await taken.answered
        taken.hang_up()
        await made.ended.wait()
    assert (near.errors, far.errors, problems) == ([], [], [])
    await near.close()
    await far.close()


async def nobody_listens(host: str) -> None:
    """A connection that can't be opened fails what was to go over it."""
    near, gone = await Phone.open(host, "tcp"), await Phone.open(host, "tcp")
    address = gone.address
    await gone.close()
    made = near.dial(f"sip:far@{address};transport=tcp")
    async with asyncio.timeout(20):
        with pytest.raises(Exception, match="503"):
            await made.answered
    await near.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_call_on_either_loop(run: Run, transport: str, host: str) -> None:
    run(call(host, transport))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_closed_port_on_either_loop(run: Run) -> None:
    run(nobody_listens("127.0.0.1"))
