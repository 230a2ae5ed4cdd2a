"""The consent gate of a call: the facts are gathered, the engine is asked, the answer is stored.

Whatever goes wrong here gives ``none`` and ``engine_error``; the call itself goes on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from gateway.b2bua.identity import Caller
from gateway.consent.engine import ConsentData, Decision, decide, engine_error, prospect_two_party
from gateway.consent.facts import Facts
from gateway.consent.jurisdictions import Jurisdictions
from gateway.consent.places import AreaCodes
from gateway.store.records import DecisionMade
from gateway.store.store import Store

log = structlog.get_logger("consent")


@dataclass(frozen=True, slots=True)
class Gated:
    """A decision on its way into the store."""

    mode: str
    record: DecisionMade
    stored: asyncio.Future[None] | None = None
    """Done when the decision is durable; its exception says that it is not."""
    prospect_two_party: bool = True
    """Whether the prospect's location is two-party, or not known."""


class ConsentGate:
    """Asks the engine with the store's policy and dialing list."""

    def __init__(self, store: Store, data: ConsentData) -> None:
        self._store = store
        self._data = data

    async def decide(self, call_id: str, caller: Caller, now: datetime) -> Gated:
        """Never raises: what goes wrong is an ``engine_error``."""
        facts: dict[str, Any] = {
            "direction": caller.direction,
            "prospect_number": caller.prospect_number,
            "user_country": caller.agent.country,
            "user_state": caller.agent.state,
        }
        version: int | None = None
        two_party = True
        try:
            policy = await self._store.directory.policy(caller.agent.organization)
            version = policy.version
            facts["prospect_state"] = await self._prospect_state(caller)
            decision = decide(policy.policy, Facts(**facts), self._data, now)
            two_party = prospect_two_party(policy.policy, Facts(**facts), self._data, now)
        except Exception as error:
            log.error("consent engine error: the call is not recorded", call_id=call_id, exc_info=error)
            decision = engine_error(f"{type(error).__name__}: {error}", self._data, now)
        record = _record(call_id, facts, decision, version, now)
        return Gated(str(decision.mode), record, prospect_two_party=two_party)

    async def _prospect_state(self, caller: Caller) -> str | None:
        """The trusted header of this very call, else the dialing list."""
        if caller.state_header:
            return caller.state_header
        return await self._store.directory.prospect_state(caller.agent.organization, caller.prospect_number)

    async def decide_again(self, organization: str, made: DecisionMade, now: datetime) -> Gated:
        """The same facts by the policy in force now. Raises StoreError when that can't be read; else never."""
        policy = await self._store.directory.policy(organization)
        try:
            decision = decide(policy.policy, Facts(**made.facts), self._data, now)
        except Exception as error:
            log.error("consent engine error: the call is recorded no longer", call_id=made.call_id, exc_info=error)
            decision = engine_error(f"{type(error).__name__}: {error}", self._data, now)
        return Gated(str(decision.mode), _record(made.call_id, dict(made.facts), decision, policy.version, now))

    def undecidable(self, made: DecisionMade, why: str, now: datetime) -> Gated:
        """``engine_error`` for a call whose policy can't be understood any more."""
        log.error("consent engine error: the call is recorded no longer", call_id=made.call_id, error=why)
        return Gated("none", _record(made.call_id, dict(made.facts), engine_error(why, self._data, now), None, now))

    def changed(self, gated: Gated, answer: dict[str, Any], now: datetime) -> Gated:
        """The decision that the prospect's own key has made of ``gated``; see ``gateway.consent.asked``."""
        record = replace(
            gated.record,
            mode=answer["mode"],
            reason=answer["reason"],
            rule=answer["rule"],
            decided_at=now,
            answer=answer,
        )
        return replace(gated, mode=answer["mode"], record=record)

    async def refresh(self) -> None:
        """Look whether somebody else has changed what is decided by: ``generation`` tells. Raises StoreError."""
        await self._store.directory.refresh()

    @property
    def generation(self) -> int:
        """See ``Directory.generation``."""
        return self._store.directory.generation

    @property
    def data(self) -> ConsentData:
        return self._data

    def store(self, gated: Gated) -> asyncio.Future[None]:
        """Write the decision down; capture waits for the future."""
        return self._store.journal.decision_made(gated.record)


def load_data(area_codes: str, jurisdictions: str) -> ConsentData:
    """The engine's reference data, out of the texts of its two files. Raises DataError."""
    return ConsentData(AreaCodes.from_csv(area_codes), Jurisdictions.from_toml(jurisdictions))


def _record(
    call_id: str, facts: dict[str, Any], decision: Decision, version: int | None, now: datetime
) -> DecisionMade:
    return DecisionMade(
        call_id=call_id,
        mode=str(decision.mode),
        reason=str(decision.reason),
        rule=decision.rule,
        policy_version=version,
        jurisdictions_version=decision.jurisdictions_version,
        decided_at=now,
        facts=facts,
        answer=decision.as_dict(),
    )
