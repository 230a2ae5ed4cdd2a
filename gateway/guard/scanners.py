"""What gives a scanner away. Only strangers are looked at: the same tools serve honest ends in an operator's hands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.sip.message import Request

TOOLS: Final = (
    "friendly-scanner", "friendly-request", "sipvicious", "sipcli", "sip-scan", "sipscan", "sipsak", "sipptk", "sippts",
    "sundayddr", "iwar", "siparmyknife", "vaxsipuseragent", "vaxasip", "pplsip", "svmap", "svwar", "svcrack", "nmap",
    "eyebeam release 3006o stamp 17551", "voip-scan", "scanner", "mr.sip", "sivus", "voiper", "viproy", "metasploit",
)  # fmt: skip
"""Parts of User-Agent values, lower case."""


class Scanners:
    """Recognises requests of scanners by the names that they bear."""

    def __init__(self, names: Iterable[str] = TOOLS) -> None:
        found = sorted({name.strip().lower() for name in names if name.strip()})
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    def sent(self, request: Request) -> bool:
        """Whether a User-Agent, or a name in From or To, is that of a scanner."""
        if self._pattern is None:
            return False
        agent = (request.get("user-agent") or "")[:200].lower()
        if agent and self._pattern.search(agent):
            return True
        return any("sipvicious" in (request.get(name) or "")[:200].lower() for name in ("from", "to"))
