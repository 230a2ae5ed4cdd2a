"""One-party or two-party, by region: the data, and the organization's overrides toward two-party."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from gateway.consent.places import REGIONS, parse_state
from gateway.consent.policy import Policy
from gateway.web.auth import WebDep, need
from gateway.web.context import Web
from gateway.web.problems import Problem, responses
from gateway.web.roles import Principal, Scope
from gateway.web.settings_rules import change_setting
from gateway.web.types import PRINTABLE

router = APIRouter(tags=["jurisdictions"])

Reader = Annotated[Principal, Depends(need(Scope.JURISDICTIONS_READ))]
Writer = Annotated[Principal, Depends(need(Scope.POLICY_WRITE))]
RegionPath = Annotated[str, PathParameter(max_length=64, pattern=PRINTABLE, examples=["US-NY"])]


class Jurisdiction(BaseModel):
    """A region's law as it is applied today."""

    region: str = Field(description="ISO 3166-2")
    name: str
    consent: str = Field(description="one_party or two_party, override included")
    law: str = Field(description="What the data says")
    overridden: bool
    statute: str | None
    sources: list[str]
    effective_from: date | None
    reviewed: date | None


class Jurisdictions(BaseModel):
    """All regions."""

    version: str
    items: list[Jurisdiction]


def rows(web: Web, policy: Policy) -> list[Jurisdiction]:
    """Every region as it is for a policy, by code; for API and page alike."""
    today = web.now().date()
    found = []
    for region, name in sorted(REGIONS.items()):
        row = web.data.jurisdictions.row(region, today)
        law = str(web.data.jurisdictions.consent(region, today))
        overridden = region in policy.two_party_overrides
        found.append(
            Jurisdiction(
                region=region, name=name, consent="two_party" if overridden else law, law=law, overridden=overridden,
                statute=row.statute if row else None, sources=list(row.sources) if row else [],
                effective_from=row.effective_from if row else None, reviewed=row.reviewed if row else None,
            )
        )  # fmt: skip
    return found


@router.get("/jurisdictions", responses=responses(), operation_id="list_jurisdictions")
async def list_jurisdictions(web: WebDep, principal: Reader) -> Jurisdictions:
    """Every state, territory and province with its class, statute, sources and date of review."""
    policy = (await web.store.policies.current(principal.organization)).policy
    return Jurisdictions(version=web.data.jurisdictions.version, items=rows(web, policy))


@router.put("/jurisdictions/{region}/override", responses=responses(404), operation_id="override_jurisdiction")
async def put_override(web: WebDep, principal: Writer, region: RegionPath) -> Jurisdiction:
    """Treat a region as two-party, whatever the data says. There is no override toward one-party."""
    return await _override(web, principal, region, True)


@router.delete("/jurisdictions/{region}/override", responses=responses(404), operation_id="remove_override")
async def delete_override(web: WebDep, principal: Writer, region: RegionPath) -> Jurisdiction:
    """Follow the data again."""
    return await _override(web, principal, region, False)


async def _override(web: Web, principal: Principal, region: str, on: bool) -> Jurisdiction:
    code = parse_state(region)
    if code is None:
        raise Problem(404, f"{region} is not a state, territory or province")
    current = await web.store.policies.current(principal.organization)
    wanted = current.policy.two_party_overrides | {code} if on else current.policy.two_party_overrides - {code}
    done = await change_setting(web, principal, "jurisdiction_overrides", sorted(wanted), after=current.version)
    return next(row for row in rows(web, done.policy.policy) if row.region == code)
