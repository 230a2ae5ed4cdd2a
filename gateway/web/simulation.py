"""A draft policy against past calls or a dialing list. Runs in the worker process, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, and_, func, select

from gateway.consent.engine import ConsentData, decide
from gateway.consent.facts import Facts
from gateway.consent.jurisdictions import Jurisdictions
from gateway.consent.places import AreaCodes
from gateway.consent.policy import Policy
from gateway.store.database import connect
from gateway.store.tables import calls, decisions, dialing_list, users

MAX_LOCATIONS = 20
_EXAMPLES = 20
_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Order:
    """What to simulate; picklable."""

    store_url: str
    organization: str
    draft: dict[str, Any]
    in_force: dict[str, Any]
    source: str
    username: str | None
    since: datetime | None
    until: datetime | None
    locations: tuple[tuple[str | None, str | None], ...]
    """Country and state of the users that a list's numbers are called by."""
    reference_texts: tuple[str, str]
    now: datetime


Pair = tuple[str, str]
"""Mode and reason."""


@lru_cache(1)
def _data(texts: tuple[str, str]) -> ConsentData:
    return ConsentData(AreaCodes.from_csv(texts[0]), Jurisdictions.from_toml(texts[1]))


def simulate(order: Order) -> dict[str, Any]:
    """Count what a draft would change. Raises StoreError."""
    began = time.monotonic()
    data, draft, in_force = _data(order.reference_texts), _policy(order.draft), _policy(order.in_force)
    counted: Counter[tuple[Pair, Pair]] = Counter()
    examples: list[dict[str, Any]] = []
    with connect(order.store_url) as connection:
        for about, facts, before in (
            _calls(connection, order) if order.source == "calls" else _listed(connection, order)
        ):
            if before is None:
                made = decide(in_force, facts, data, order.now)
                before = str(made.mode), str(made.reason)
            would = decide(draft, facts, data, order.now)
            after = str(would.mode), str(would.reason)
            counted[before, after] += 1
            if before[0] != after[0] and len(examples) < _EXAMPLES:
                examples.append({**about, "before": _pair(before), "after": _pair(after)})
    transitions = [
        {"before": _pair(before), "after": _pair(after), "calls": count, "changed": before[0] != after[0]}
        for (before, after), count in counted.most_common()
    ]
    return {
        "source": order.source,
        "calls": sum(counted.values()),
        "changed": sum(count for (before, after), count in counted.items() if before[0] != after[0]),
        "transitions": transitions,
        "examples": examples,
        "seconds": round(time.monotonic() - began, 3),
    }


def _policy(settings: dict[str, Any]) -> Policy:
    return Policy.from_mapping(settings)


def _pair(pair: Pair) -> dict[str, str]:
    return {"mode": pair[0], "reason": pair[1]}


Case = tuple[dict[str, Any], Facts, Pair | None]


def _calls(connection: Connection, order: Order) -> Iterator[Case]:
    """Past calls with the first decision of each, as it was made."""
    first = select(func.min(decisions.c.id).label("id")).group_by(decisions.c.call_id).subquery()
    query = select(
        calls.c.call_id, calls.c.prospect_number, decisions.c.facts, decisions.c.mode, decisions.c.reason
    ).select_from(
        calls.join(decisions, decisions.c.call_id == calls.c.call_id).join(first, first.c.id == decisions.c.id)
    )
    query = query.where(calls.c.organization == order.organization)
    if order.username is not None:
        query = query.join(users, and_(users.c.id == calls.c.user_id, users.c.username == order.username))
    if order.since is not None:
        query = query.where(calls.c.started_at >= order.since)
    if order.until is not None:
        query = query.where(calls.c.started_at < order.until)
    for call_id, number, facts, mode, reason in connection.execution_options(yield_per=_CHUNK).execute(query):
        known = {name: facts.get(name) for name in Facts.__dataclass_fields__}
        yield {"call_id": call_id, "number": number}, Facts(**known), (mode, reason)


def _listed(connection: Connection, order: Order) -> Iterator[Case]:
    """Numbers of the dialing list, called from each place where users are."""
    query = select(dialing_list.c.number, dialing_list.c.state).where(dialing_list.c.organization == order.organization)
    for number, state in connection.execution_options(yield_per=_CHUNK).execute(query):
        for country, user_state in order.locations:
            yield (
                {"number": number, "state": state, "user_country": country, "user_state": user_state},
                Facts("outbound", number, state, country, user_state),
                None,
            )
