"""A call that is over leaves nothing behind: no cycle that waits for the collector, no timer that keeps it."""

from __future__ import annotations

import asyncio
import gc

from gateway.b2bua.call import Call
from media.recorder import Recording
from media.timeline import LegTimeline
from tests.support.rig import Rig


def alive(*kinds: type) -> dict[str, int]:
    found = [type(thing) for thing in gc.get_objects()]
    return {kind.__name__: found.count(kind) for kind in kinds}


async def test_recordings_are_freed_at_once_and_calls_when_their_transactions_are(rig: Rig) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            call, far = await rig.call("+12125550123")
            await call.rtp.heard(5)
            await rig.hang_up(call, far)
        del call, far
        await rig.until(lambda: not rig.gateway.calls.calls)
        await rig.until(lambda: alive(LegTimeline, Recording) == {"LegTimeline": 0, "Recording": 0})
        async with asyncio.timeout(20):  # 70 * T1 of 100 ms, and T4
            while alive(Call)["Call"]:
                await asyncio.sleep(0.2)
    finally:
        gc.enable()
