"""What the whole call logic makes of each RFC 4475 and RFC 5118 message: the wanted outcome, written from the RFCs.

The sender is a trusted peer, so that nothing is decided by who it is; a REGISTER is asked for its password.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.sip.message import Request, Response, parse
from tests.b2bua.test_mutated_calls import AGENT_SIDE, CARRIER, World
from tests.support.sip_corpus import SDP_V6
from tests.support.sip_torture import CASES, Case

CALL = "call"
"""The second leg was dialed."""
NOTHING = ""
"""It is dropped."""

RFC_4475 = {
    "3.1.1.1": ("wsinv", 481),  # as strange as it looks, it is right; its To tag names a dialog that there is not
    "3.1.1.2": ("intmeth", 501),  # a method that nobody knows, in wondrous characters
    "3.1.1.3": ("esc01", CALL),  # escapes in a user part are not undone before it is parsed
    "3.1.1.4": ("escnull", 401),  # escaped NULs are a legal name
    "3.1.1.5": ("esc02", 501),  # RE%47IST%45R is not REGISTER
    "3.1.1.6": ("lwsdisp", 200),  # no space before <
    "3.1.1.7": ("longreq", CALL),  # long is not wrong
    "3.1.1.8": ("dblreq", 401),  # the second message in the datagram is not looked at
    "3.1.1.9": ("semiuri", 200),  # a semicolon in the user part
    "3.1.1.10": ("transports", 200),  # unknown transports below the top Via
    "3.1.1.11": ("mpart01", 405),  # a method that is known and not allowed, with a binary body
    "3.1.1.12": ("unreason", NOTHING),  # a response that matches nothing
    "3.1.1.13": ("noreason", NOTHING),
    "3.1.2.1": ("badinv01", CALL),  # extra separators: 400, or taken as it was meant
    "3.1.2.2": ("clerr", 400),  # a body shorter than it says
    "3.1.2.3": ("ncl", 400),
    "3.1.2.4": ("scalar02", 400),
    "3.1.2.5": ("scalarlg", NOTHING),
    "3.1.2.6": ("quotbal", 400),
    "3.1.2.7": ("ltgtruri", 400),
    "3.1.2.8": ("lwsruri", 400),
    "3.1.2.9": ("lwsstart", CALL),  # two spaces: 400, or taken as it was meant
    "3.1.2.10": ("trws", 200),
    "3.1.2.11": ("escruri", CALL),  # headers in a Request-URI: 400, or ignored
    "3.1.2.12": ("baddate", CALL),  # a Date that is no GMT matters to nobody here
    "3.1.2.13": ("regbadct", 400),
    "3.1.2.14": ("badaspec", 200),  # spaces within <>: 400, or taken as it was meant
    "3.1.2.15": ("baddn", 400),
    "3.1.2.16": ("badvers", 505),
    "3.1.2.17": ("mismatch01", 400),
    "3.1.2.18": ("mismatch02", 400),  # or 501
    "3.1.2.19": ("bigcode", NOTHING),
    "3.2.1": ("badbranch", 200),  # the cookie alone: an RFC 2543 transaction
    "3.3.1": ("insuf", 400),
    "3.3.2": ("unkscm", 416),
    "3.3.3": ("novelsc", 416),
    "3.3.4": ("unksm2", 401),  # whoever it means has to prove it first
    "3.3.5": ("bext01", 420),
    "3.3.6": ("invut", 415),
    "3.3.7": ("regaut01", 401),
    "3.3.8": ("multi01", 400),
    "3.3.9": ("mcl01", 400),
    "3.3.10": ("bcast", NOTHING),  # and nothing goes to the second Via
    "3.3.11": ("zeromf", 200),  # Max-Forwards matters to proxies
    "3.3.12": ("cparam01", 401),
    "3.3.13": ("cparam02", 401),
    "3.3.14": ("regescrt", 401),
    "3.3.15": ("sdp01", 406),
    "3.4.1": ("inv2543", CALL),
}
RFC_5118 = {
    "5118 4.1": ("ipv6-good", 401),
    "5118 4.2": ("ipv6-bad", 400),
    "5118 4.3": ("port-ambiguous", 401),  # the port is part of the address
    "5118 4.4": ("port-unambiguous", 401),
    "5118 4.5": ("via-received-param-with-delim", 481),
    "5118 4.6": ("ipv6-in-sdp", CALL),
    "5118 4.7": ("mult-ip-in-header", 200),
    "5118 4.8": ("mult-ip-in-sdp", CALL),
    "5118 4.9": ("ipv4-mapped-ipv6", CALL),
    "5118 4.10": ("ipv6-bug-abnf-3-colons", 200),  # "must tolerate"
}
SECOND = {"5118 4.5": ("via-received-param-no-delim", 200), "5118 4.10": ("ipv6-correct-abnf-2-colons", 200)}
OUTCOMES = [*RFC_4475.items(), *RFC_5118.items(), *SECOND.items()]


def case_of(section: str, name: str) -> Case:
    (found,) = [case for case in CASES if (case.section, case.name) == (section, name)]
    return found


def test_every_section_of_both_rfcs_is_there() -> None:
    wanted = [f"3.1.1.{n}" for n in range(1, 14)] + [f"3.1.2.{n}" for n in range(1, 20)] + ["3.2.1"]
    wanted += [f"3.3.{n}" for n in range(1, 16)] + ["3.4.1"]
    assert list(RFC_4475) == wanted
    assert list(RFC_5118) == [f"5118 4.{n}" for n in range(1, 11)]


def new_world() -> World:
    """With media addresses of both families."""
    world = World(seed=1, rate=0.0)
    world.table.settings = replace(world.table.settings, media_hosts=("192.0.2.1", "2001:db8::1"))
    return world


async def outcome(world: World, data: bytes) -> tuple[int | str, list[Request]]:
    """What its sender got, or ``CALL``; and what was sent to the carrier."""
    world.agent.receive(data, AGENT_SIDE, world.now)
    world.pump()
    await world.settle()
    back, dialed = [], []
    for flow, sent in world.sent:
        message = parse(sent)
        assert flow.remote_host in (AGENT_SIDE.remote_host, CARRIER[0]), "nothing goes where a header says"
        if isinstance(message, Request):
            dialed.append(message)
        elif message.status >= 200:
            back.append(message)
    assert len(back) + bool(dialed) <= 1
    if dialed:
        return CALL, dialed
    return (back[0].status if back else NOTHING), []


@pytest.mark.parametrize(
    ("section", "named"), OUTCOMES, ids=[f"{section}-{name}" for section, (name, _) in OUTCOMES]
)  # fmt: skip
async def test_the_wanted_outcome(section: str, named: tuple[str, int | str]) -> None:
    name, wanted = named
    world = new_world()
    data = case_of(section, name).data
    if section == "3.1.2.13":
        wanted = 401  # the registrar's word comes after the password: see the registrar's tests
    got, dialed = await outcome(world, data)
    assert got == wanted
    assert world.metrics.exceptions == []
    for invite in dialed:
        assert re.fullmatch(r"sip:[^@<>\s]*@203\.0\.113\.9:5060", invite.uri)
        assert invite.get("route") is None and invite.get("record-route") is None


async def test_ipv6_media_passes_through_the_gateway() -> None:
    """RFC 5118 4.6: the far end's IPv6 address is taken, and ours is offered."""
    world = new_world()
    got, (invite,) = await outcome(world, case_of("5118 4.6", "ipv6-in-sdp").data)
    assert got == CALL and b"2001:db8::10" in SDP_V6 and b"2001:db8::10" not in invite.body
    session = world.media.sessions[-1]
    assert "2001:db8::10" in {remote.host for remote in session.remotes.values() if remote is not None}


async def test_a_refusal_of_a_broken_request_can_be_read() -> None:
    """Each answer to a torture message goes to its sender, with the Via that it came with."""
    for section, (name, wanted) in OUTCOMES:
        if wanted in (CALL, NOTHING):
            continue
        world = new_world()
        world.agent.receive(case_of(section, name).data, AGENT_SIDE, 0)
        await world.settle()
        for flow, sent in world.sent:
            message = parse(sent)
            assert isinstance(message, Response) and flow.remote_host == AGENT_SIDE.remote_host
            assert message.get("via") is not None and message.get("cseq") is not None
