"""The settings of call recording: read, change one, versions, differences, try a number, simulate."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field, StrictBool, StrictStr

from gateway.consent.engine import decide
from gateway.consent.facts import Facts
from gateway.consent.policy import Policy
from gateway.store.errors import NotFound
from gateway.store.policies import settings_of
from gateway.web import simulation
from gateway.web.auth import Current, WebDep, need
from gateway.web.context import Web
from gateway.web.jobs import Busy
from gateway.web.problems import Problem, responses
from gateway.web.roles import Principal, Scope
from gateway.web.settings_rules import change_setting, describe, policy_view
from gateway.web.types import Moment, Number, Text, Username

router = APIRouter(tags=["policy"])

Reader = Annotated[Principal, Depends(need(Scope.POLICY_READ))]
Version = Annotated[int, Path(ge=0, le=2**31 - 1)]
VersionQuery = Annotated[int, Query(ge=0, le=2**31 - 1)]


class PolicyView(BaseModel):
    """The settings in force."""

    organization: str
    version: int
    settings: dict[str, Any]
    hidden: list[str] = Field(description="Settings that play no part now; they are kept, and come back")
    support_contact: str


@router.get("/policy", responses=responses(), operation_id="read_policy")
async def read_policy(web: WebDep, principal: Reader) -> PolicyView:
    """The settings in force."""
    return PolicyView(**policy_view(await web.store.policies.current(principal.organization), web))


class NewValue(BaseModel):
    """A setting's new value."""

    value: StrictBool | StrictStr | list[StrictStr] | dict[str, StrictStr] = Field(
        description="on/off as a boolean, a choice as a text, a set as a list", examples=[True, "either", ["US-NH"]]
    )
    after: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="The version that was looked at: 409 if it is not the newest",
    )


class PolicyChanged(PolicyView):
    """What a change came to."""

    changes: list[str] = Field(description="A sentence for each setting that is different now")


@router.put("/policy/{setting}", responses=responses(409), operation_id="change_setting")
async def put_setting(
    web: WebDep, principal: Current, setting: Annotated[str, Path(max_length=64)], given: NewValue
) -> PolicyChanged:
    """Change one setting. It is saved at once as a new version, and calls in progress follow where it narrows them."""
    done = await change_setting(web, principal, setting, given.value, after=given.after)
    view = policy_view(done.policy, web)
    if not principal.may(Scope.POLICY_READ):  # support: has switched recording on, and sees no more than that
        view["settings"] = {"recording_enabled": done.policy.policy.recording_enabled}
        view["hidden"] = []
    return PolicyChanged(**view, changes=list(done.changes))


class VersionView(BaseModel):
    """One version of the settings, as it was stored."""

    version: int
    created_at: datetime
    created_by: str
    changes: list[str] = Field(description="Against the version before it")
    settings: dict[str, Any]


class VersionPage(BaseModel):
    """Versions, the newest first."""

    items: list[VersionView]
    next: int | None = Field(description="``before`` of the page that follows")


@router.get("/policy/versions", responses=responses(), operation_id="list_policy_versions")
async def list_versions(
    web: WebDep, principal: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Versions older than this one")] = None,
) -> VersionPage:  # fmt: skip
    """The versions, the newest first, with what each changed."""
    found = await web.store.policies.versions(principal.organization, before=before, limit=limit + 1)
    defaults = settings_of(Policy())
    items = []
    for index, version in enumerate(found[:limit]):
        former = dict(found[index + 1].settings) if index + 1 < len(found) else defaults
        items.append(
            VersionView(
                version=version.version, created_at=version.created_at, created_by=version.created_by,
                changes=describe(former, version.settings), settings=dict(version.settings),
            )
        )  # fmt: skip
    return VersionPage(items=items, next=items[-1].version if len(found) > limit else None)


@router.get("/policy/versions/{version}", responses=responses(404), operation_id="read_policy_version")
async def read_version(web: WebDep, principal: Reader, version: Version) -> PolicyView:
    """A former version (0: the defaults)."""
    return PolicyView(**policy_view(await web.store.policies.get(principal.organization, version), web))


class Difference(BaseModel):
    """What one version has that another has not."""

    setting: str
    before: Any
    after: Any


@router.get("/policy/diff", responses=responses(404), operation_id="diff_policy_versions")
async def diff_versions(
    web: WebDep, principal: Reader,
    from_: Annotated[int, Query(alias="from", ge=0, le=2**31 - 1)], to: VersionQuery,
) -> list[Difference]:  # fmt: skip
    """The settings that differ between two versions."""
    old, new = [
        settings_of((await web.store.policies.get(principal.organization, version)).policy) for version in (from_, to)
    ]
    names = dict.fromkeys((*old, *new))
    return [
        Difference(setting=name, before=old.get(name), after=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]


class Trial(BaseModel):
    """A call that is not made: what would be decided?"""

    number: Number = Field(description="The prospect's", examples=["+1 603 555 0123"])
    direction: Literal["outbound", "inbound"] = "outbound"
    username: Username | None = Field(default=None, description="Whose location counts; without: yours")
    prospect_state: Text | None = Field(default=None, description="Without: what the dialing list says")
    settings: dict[str, Any] | None = Field(default=None, description="A draft; without: the settings in force")


class DecisionView(BaseModel):
    """A decision as the engine gives it."""

    mode: str
    reason: str
    rule: int
    trace: list[dict[str, Any]]
    locations: dict[str, Any]
    policy_version: int | str | None
    jurisdictions_version: str | None
    time: str


@router.post("/policy/trial", responses=responses(404), operation_id="try_number")
async def try_number(web: WebDep, principal: Reader, given: Trial) -> DecisionView:
    """Try a number: the decision that a call would get now, with its trace."""
    return DecisionView(**await trial(web, principal, given))


async def trial(web: Web, principal: Principal, given: Trial) -> dict[str, Any]:
    """See ``try_number``. Raises Problem, StoreError, PolicyError."""
    user = await own_user(web, principal, given.username or principal.identity.username)
    current = await web.store.policies.current(principal.organization)
    policy = Policy.from_mapping(given.settings) if given.settings is not None else current.policy
    state = given.prospect_state or await web.store.directory.prospect_state(principal.organization, given.number)
    facts = Facts(given.direction, given.number, state, user.agent.country, user.agent.state)
    return decide(policy, facts, web.data, web.now()).as_dict()


async def own_user(web: Web, principal: Principal, username: str) -> Any:
    """A user of the principal's organization. Raises NotFound, for those of others too."""
    user = await web.store.accounts.user(username)
    if user.agent.organization != principal.organization:
        raise NotFound(f"there is no user {username}")
    return user


class Simulation(BaseModel):
    """What to try a draft on."""

    settings: dict[str, Any] = Field(
        description="The draft: settings by name, absent ones as they are now", examples=[{"agent_side_only": True}]
    )
    source: Literal["calls", "list"] = Field(description="Past calls, or the dialing list")
    username: Username | None = Field(
        default=None, description="calls: of this user alone; list: whose location counts (without: every "
        "location that users of the organization have)",
    )  # fmt: skip
    since: Moment | None = Field(default=None, description="calls: from this time on")
    until: Moment | None = Field(default=None, description="calls: before this time")


class Outcome(BaseModel):
    """What was, or would be, decided."""

    mode: str
    reason: str


class Transition(BaseModel):
    """Calls that are decided so now, and would be so by the draft."""

    before: Outcome
    after: Outcome
    calls: int
    changed: bool = Field(description="Another mode, not only another reason")


class Simulated(BaseModel):
    """What a draft would change."""

    source: str
    calls: int
    changed: int = Field(description="Calls of which another mode would be captured")
    transitions: list[Transition]
    examples: list[dict[str, Any]] = Field(description="Some of the changed ones")
    seconds: float


@router.post("/policy/simulation", responses=responses(404, 409), operation_id="simulate_policy")
async def simulate_policy(web: WebDep, principal: Reader, given: Simulation) -> Simulated:
    """Run past calls or the dialing list against a draft: how many calls would change, from what to what.

    Past calls are compared with what was decided then, list numbers with the settings in force. Runs beside the
    gateway, with calls going first.
    """
    return Simulated(**await simulated(web, principal, given))


async def simulated(web: Web, principal: Principal, given: Simulation) -> dict[str, Any]:
    """See ``simulate_policy``."""
    current = await web.store.policies.current(principal.organization)
    draft = Policy.from_mapping({**settings_of(current.policy), **_flat(given.settings)})
    locations: list[tuple[str | None, str | None]] = []
    if given.username is not None:
        agent = (await own_user(web, principal, given.username)).agent
        locations = [(agent.country, agent.state)]
    elif given.source == "list":
        users = await web.store.accounts.users(principal.organization)
        locations = sorted({(u.agent.country, u.agent.state) for u in users if u.agent.enabled}, key=str)
        if len(locations) > simulation.MAX_LOCATIONS:
            raise Problem(422, f"users are in {len(locations)} places: say username, whose location is to count")
    order = simulation.Order(
        web.store_url, principal.organization, settings_of(draft), settings_of(current.policy), given.source,
        given.username, given.since, given.until, tuple(locations), web.reference_texts, web.now(),
    )  # fmt: skip
    try:
        return await web.jobs.run(simulation.simulate, order)
    except Busy:
        raise Problem(503, "other simulations and imports run; try again", headers={"retry-after": "10"}) from None


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested families (``never_record: {enabled: …}``) as dotted names, as stored settings have them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in ("never_record", "international") and isinstance(value, dict):
            flat |= {f"{name}.{part}": item for part, item in value.items()}
        else:
            flat[name] = value
    return flat
