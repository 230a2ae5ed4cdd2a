"""The web server: uvicorn on the gateway's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the gateway's to handle."""
        yield


class WebServer:
    """Serves an application on one address."""

    def __init__(self, app: FastAPI, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None,
                 trusted_proxies: str = "") -> None:  # fmt: skip
        """Binds at once. Raises OSError."""
        self._socket = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
        self.scheme = "https" if certificate else "http"
        self.host, self.port = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", server_header=False, ws="websockets-sansio",
            timeout_graceful_shutdown=2, limit_concurrency=500, h11_max_incomplete_event_size=32 * 1024,
            proxy_headers=bool(trusted_proxies), forwarded_allow_ips=trusted_proxies or "127.0.0.1",
            ssl_certfile=str(certificate) if certificate else None, ssl_keyfile=str(key) if key else None,
        )  # fmt: skip
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Begin to serve. Raises RuntimeError when the application does not start."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the web server ended at once")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End; open connections have two seconds."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError, SystemExit):
                await self._task
        self._socket.close()
