"""What is dialed and who calls, in odd spellings: nothing of it becomes anything but a user part on the other leg."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.b2bua.routing import Peer, Trunk, peer_target, trunk_target
from gateway.sip.uri import Uri, escaped_user
from scripts.phone import CallFailed
from tests.b2bua.conftest import Lab, taken
from tests.b2bua.test_calls import two


@pytest.mark.parametrize("user", ["%2B16035550100%0d%0aX-Evil:%201", "12%00", "12%7F", "%0d%0a%0d%0a"])
async def test_a_hidden_control_character_is_dialed_nowhere(lab: Lab, user: str) -> None:
    agent, carrier = await two(lab)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri(user))
    assert failure.value.status == 484
    await lab.idle()
    assert carrier.invites == []


@pytest.mark.parametrize(
    ("user", "dialed"),
    [("12%40evil.test", "12%40evil.test"), ("12%20SIP/2.0", "12%20SIP/2.0"), ("a%3Cb%3E%22", "a%3Cb%3E%22"),
     ("%2B12125550123", "+12125550123"), ("*67%23", "*67%23"), ("12%3Fx%25", "12%3Fx%25"), ("b%E9", "b%E9")],
)  # fmt: skip
async def test_what_is_escaped_comes_in_and_goes_out_escaped(lab: Lab, user: str, dialed: str) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri(user))
    invite = carrier.invites[0]
    assert invite.uri == f"sip:{dialed}@{lab.host}:{carrier.port}"
    assert invite.to.uri_text == invite.uri
    assert Uri.parse(invite.uri).host == lab.host
    call.hang_up()


async def test_a_password_in_from_goes_no_further(lab: Lab) -> None:
    agent, carrier = await lab.phone(username="alice:geheim;x=1"), await lab.phone()
    await lab.serve(carrier)
    call = await agent.call(lab.uri())
    assert carrier.invites[0].from_.uri.user == "alice"
    assert b"geheim" not in bytes(carrier.invites[0])
    call.hang_up()


async def test_a_contact_with_a_parameter_in_its_user_part_is_called(lab: Lab) -> None:
    lab.add_agent("bob")
    alice, bob = await lab.phone(username="alice"), await lab.phone(username="bob", password="secret")
    await lab.serve()
    assert (await bob.register(lab.registrar)).status == 200
    bindings = lab.table.registrar._bindings["bob"]
    for uri, binding in tuple(bindings.items()):
        bindings[uri] = replace(binding, uri=uri.replace("sip:bob@", "sip:bob;line=2@"))
    call = await alice.call(lab.uri("bob"))
    far = await taken(bob)
    assert bob.invites[0].to.uri.host == bob.host
    assert bob.invites[0].to.uri.user == "bob;line=2"
    far.hang_up()
    call.hang_up()


def test_targets_escape_what_is_no_user_part() -> None:
    assert trunk_target(Trunk("t", "192.0.2.1", 5060), "1@2;x").uri == "sip:1%402%3Bx@192.0.2.1:5060"
    assert peer_target(Peer("p", (), "acme", host="2001:db8::1"), "a b").uri == "sip:a%20b@[2001:db8::1]:5060"
    for name in ("+1 (212)", "é#", 'a"<>\r\n', "x?y&z=1"):
        assert Uri.parse(f"sip:{escaped_user(name)}@192.0.2.1").username == name
