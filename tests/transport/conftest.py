"""Sockets behave alike on both event loops: the gateway serves on uvloop, tests run on asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops of every test here."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
