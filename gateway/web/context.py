"""What the web is built on: handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from gateway.b2bua.calls import LiveCall
from gateway.b2bua.keys import Control
from gateway.consent.engine import ConsentData
from gateway.store.access import LOCK_AFTER, LOCK_FOR
from gateway.store.store import Store
from gateway.web.jobs import Jobs
from gateway.web.throttle import Throttle


class LiveCalls(Protocol):
    """The table of live calls, as the web sees it."""

    def live(self, organization: str) -> Sequence[LiveCall]:
        """The calls of an organization, the newest first."""

    def control_capture(self, organization: str, call_id: str, control: Control, by: str) -> LiveCall | None:
        """Pause or resume the capture of a call, for the user ``by``; None: there is no such live call."""


@dataclass
class Web:
    """Everything that routes and pages use."""

    store: Store
    store_url: str
    data: ConsentData
    reference_texts: tuple[str, str]
    """area_codes.csv and jurisdictions.toml, for the worker process."""
    live: LiveCalls
    policy_changed: Callable[[], Awaitable[None]]
    """Called after a change that live calls must follow."""
    recordings_root: Path
    realm: str
    """Of SIP digest, part of every stored HA1."""
    support_contact: str
    session_lifetime: timedelta = timedelta(hours=12)
    session_idle: timedelta = timedelta(hours=1)
    secure_cookies: bool = True
    max_upload_bytes: int = 512 * 1024 * 1024
    jobs: Jobs = field(default_factory=Jobs)
    throttle: Throttle = field(default_factory=Throttle)
    strangers: Throttle = field(default_factory=lambda: Throttle(LOCK_AFTER - 1, LOCK_FOR.total_seconds()))
    """Names that nobody has are locked like those that somebody has: a lock must not tell which is which."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def close(self) -> None:
        """End the worker process, if there is one."""
        await self.jobs.close()
