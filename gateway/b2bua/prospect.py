"""What a prospect's key does to a call: consent widens the capture once the new decision is stored, a no narrows it.

Whatever is in doubt widens nothing: the policy is asked once more, and if it changes while the new decision is being
stored, the prospect has to press once more.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog

from gateway.b2bua.announcing import Asked
from gateway.b2bua.call import Call
from gateway.b2bua.gate import ConsentGate, Gated
from gateway.consent.asked import consented, may_widen, opted_out
from media.engine import CaptureMode

log = structlog.get_logger("consent")


class Decisions(Protocol):
    """The live calls' decisions; None: the call is over, or was never decided about."""

    def decision(self, call: Call) -> Gated | None: ...

    def decided_anew(self, call: Call, gated: Gated) -> None: ...


class ProspectKeys:
    """``opt_out_key`` "" switches it off; ``opt_out_mode`` is what is captured then at the most."""

    def __init__(
        self, gate: ConsentGate, decisions: Decisions, now: Callable[[], datetime], opt_out_key: str, opt_out_mode: str
    ) -> None:
        self._gate = gate
        self._decisions = decisions
        self._now = now
        self.opt_out_key = opt_out_key
        self._opt_out_mode = opt_out_mode

    def opt_out(self, call: Call) -> None:
        """The prospect said no: at once, and for the rest of the call."""
        gated = self._decisions.decision(call)
        if gated is None or call.bridge is None or "opt_out" in gated.record.answer:
            return
        now = self._now()
        answer = opted_out({**gated.record.answer, "mode": str(call.bridge.media.mode), "reason": gated.record.reason},
                           self._opt_out_mode, self.opt_out_key, now.isoformat())  # fmt: skip
        call.bridge.media.narrow(CaptureMode(answer["mode"]), answer["reason"])
        call.bridge.media.mark("opt_out", key=self.opt_out_key, mode=answer["mode"])
        anew = self._gate.changed(gated, answer, now)
        self._decisions.decided_anew(call, anew)
        self._gate.store(anew)
        log.info("prospect opted out", call_id=anew.record.call_id, mode=anew.mode)

    async def consent(self, call: Call, asked: Asked, via: str) -> None:
        """The prospect pressed the key in time. The new decision is durable before anything of them is captured."""
        gated = self._decisions.decision(call)
        if gated is None or call.plan is None or not self._open(call, gated):
            return
        await self._gate.refresh()
        generation = self._gate.generation
        now = self._now()
        again = await self._gate.decide_again(call.plan.organization, gated.record, now)
        if not may_widen(again.mode, again.record.reason):
            return
        basis = {"key": asked.key, "via": via, "announcement": asked.file, "announcement_sha256": asked.sha256}
        anew = self._gate.changed(again, consented(again.record.answer, basis, now.isoformat()), now)
        if self._decisions.decision(call) is not gated:
            return
        await self._gate.store(anew)
        await self._gate.refresh()
        if self._decisions.decision(call) is not gated or not self._open(call, gated):
            return
        if self._gate.generation != generation:
            log.warning("the policy changed while the prospect consented: nothing widens", call_id=anew.record.call_id)
            return
        assert call.bridge is not None
        call.bridge.media.admit_prospect(anew.record.answer, reason=anew.record.reason, **basis)
        self._decisions.decided_anew(call, anew)
        log.info("prospect consented", call_id=anew.record.call_id)

    @staticmethod
    def _open(call: Call, gated: Gated) -> bool:
        """Whether consent still changes something: it may, and nothing was narrowed meanwhile."""
        return (
            may_widen(gated.mode, gated.record.reason)
            and not call.ended
            and call.bridge is not None
            and call.bridge.media.mode is CaptureMode.AGENT_ONLY
        )
