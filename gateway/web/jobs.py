"""Long work (imports, simulations) in one process of its own: the gateway's own Python stays free for its calls."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

T = TypeVar("T")


class Busy(Exception):
    """Too much work waits already."""


class Jobs:
    """One worker process, started by the first job; ``waiting`` jobs at most."""

    def __init__(self, waiting: int = 4) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._limit = waiting
        self._running = 0

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """``work(*arguments)`` in the worker; both sides are pickled. Raises Busy, and what the work raises."""
        if self._running >= self._limit:
            raise Busy
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        except BrokenProcessPool:
            self._pool = None  # the next job gets a new one
            raise
        finally:
            self._running -= 1

    async def close(self) -> None:
        """End the worker; what it does is given up."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for process in list((pool._processes or {}).values()):
            process.terminate()
        await asyncio.to_thread(pool.shutdown, True, cancel_futures=True)


def _begin() -> None:
    """Calls go first; Ctrl-C is the gateway's to handle."""
    with contextlib.suppress(OSError):
        os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
