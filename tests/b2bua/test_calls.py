"""Calls through the gateway's call logic: real SIP between phones on loopback, media and store in memory."""

from __future__ import annotations

import asyncio

import pytest

from gateway.b2bua.call import CallLimits
from gateway.b2bua.keys import Control
from gateway.b2bua.routing import Trunk
from gateway.sip.sdp import SessionDescription
from gateway.store.records import CallEnded, CallStarted, DecisionMade
from media.engine import CaptureMode, NoPortsLeft, Side
from scripts.phone import CallFailed, Phone, PhoneCall
from tests.b2bua.conftest import Lab, ended, taken

EVERYWHERE = pytest.mark.parametrize("lab", ["127.0.0.1 udp", "127.0.0.1 tcp", "::1 udp", "::1 tcp"], indirect=True)


async def two(lab: Lab, **options: object) -> tuple[Phone, Phone]:
    """An agent's phone and a carrier behind the gateway."""
    agent, carrier = await lab.phone(username="alice"), await lab.phone(username="carrier")
    await lab.serve(carrier, **options)  # type: ignore[arg-type]
    return agent, carrier


def media_port(body: bytes) -> int:
    return SessionDescription.parse(body).media[0].port


@EVERYWHERE
async def test_a_call_is_bridged_captured_and_hung_up_by_the_agent(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    session = lab.session
    assert call.rtp.far_end == (lab.host, session.local(Side.AGENT).port)
    assert far.rtp.far_end == (lab.host, session.local(Side.PROSPECT).port)
    await lab.until(lambda: session.capturing is CaptureMode.BOTH)
    assert session.remotes[Side.AGENT].port == call.rtp.port
    assert session.remotes[Side.PROSPECT].port == far.rtp.port
    call.hang_up()
    await ended(far)
    await lab.idle()
    assert lab.ending.termination == "completed"
    assert lab.ending.ended_by == "agent"
    assert session.closed is not None and session.closed["kind"] == "completed"
    kinds = [type(record) for record in lab.store.journal.records]
    assert kinds == [CallStarted, DecisionMade, CallEnded]


async def test_the_prospect_hangs_up(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    await asyncio.wait_for(far.answered, 10)
    far.hang_up()
    await ended(call)
    await lab.idle()
    assert lab.ending.ended_by == "prospect"


@EVERYWHERE
async def test_a_late_offer_goes_through_on_both_legs(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri(), late_offer=True)
    far = await taken(carrier)
    await asyncio.wait_for(far.answered, 10)
    assert carrier.invites[0].body == b""
    assert far.rtp.far_end == (lab.host, lab.session.local(Side.PROSPECT).port)
    assert call.rtp.far_end == (lab.host, lab.session.local(Side.AGENT).port)
    assert lab.session.remotes[Side.AGENT].port == call.rtp.port
    call.hang_up()
    await ended(far)


async def test_ringing_and_early_media_reach_the_caller(lab: Lab) -> None:
    agent, carrier = await two(lab)
    carrier.on_call = lambda call, now: (
        call.session.provisional(180, now),
        call.session.provisional(183, now, call.sdp()),
    )
    call = agent.dial(lab.uri())
    far = await taken(carrier)
    await lab.until(lambda: len(call.provisionals) == 2)
    assert [r.status for r in call.provisionals] == [180, 183]
    assert media_port(call.provisionals[1].body) == lab.session.local(Side.AGENT).port
    assert lab.session.remotes[Side.PROSPECT].port == far.rtp.port
    assert lab.session.capturing is None, "nothing is captured before the answer"
    carrier.act(lambda now: far.session.answer(now, far.sdp()))
    await asyncio.wait_for(call.answered, 10)
    await lab.until(lambda: lab.session.capturing is not None)
    call.hang_up()
    await ended(far)


async def test_an_answer_that_came_early_holds_for_a_200_without_sdp(lab: Lab) -> None:
    agent, carrier = await two(lab)
    carrier.on_call = lambda call, now: (
        call.session.provisional(183, now, call.sdp()),
        call.session.answer(now),
    )
    call = await agent.call(lab.uri())
    assert call.rtp.far_end == (lab.host, lab.session.local(Side.AGENT).port)
    call.hang_up()


@pytest.mark.parametrize(
    ("status", "heard", "kind"),
    [(486, 486, "busy"), (603, 603, "rejected"), (404, 404, "unreachable"), (480, 480, "no_answer"),
     (302, 480, "no_answer"), (407, 403, "rejected"), (420, 500, "failed"), (488, 488, "rejected")],
)  # fmt: skip
async def test_a_failure_of_the_callee_is_told_to_the_caller(lab: Lab, status: int, heard: int, kind: str) -> None:
    agent, carrier = await two(lab)
    carrier.on_call = lambda call, now: call.session.reject(status, now)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == heard
    await lab.idle()
    assert lab.ending.termination == kind
    assert lab.session.capturing is None


@EVERYWHERE
async def test_cancel_while_it_rings(lab: Lab) -> None:
    agent, carrier = await two(lab)
    carrier.on_call = lambda call, now: call.session.provisional(180, now)
    call = agent.dial(lab.uri())
    far = await taken(carrier)
    await lab.until(lambda: bool(call.provisionals))
    call.cancel()
    with pytest.raises(CallFailed) as failure:
        await call.answered
    assert failure.value.status == 487
    await ended(far)
    assert far.ended_status == 487
    await lab.idle()
    assert lab.ending.termination == "cancelled"


async def test_cancel_before_the_callee_said_anything(lab: Lab) -> None:
    """CANCEL must wait for a provisional of the callee; the caller does not."""
    agent, carrier = await two(lab, limits=CallLimits(trunk_timeout=30))
    silent: list[PhoneCall] = []
    carrier.on_call = lambda call, now: silent.append(call)
    call = agent.dial(lab.uri())
    far = await taken(carrier)
    call.cancel()
    with pytest.raises(CallFailed):
        await call.answered
    await ended(far)


async def test_an_answer_that_crosses_with_cancel_is_acked_and_hung_up(lab: Lab) -> None:
    agent, carrier = await two(lab)
    carrier.on_call = lambda call, now: call.session.provisional(180, now)
    call = agent.dial(lab.uri())
    far = await taken(carrier)
    await lab.until(lambda: bool(call.provisionals))
    # the carrier's 200 leaves before the CANCEL can reach it
    carrier.act(lambda now: (call.cancel(), far.session.answer(now, far.sdp()))[1])
    with pytest.raises(CallFailed):
        await call.answered
    await ended(far)
    await lab.idle()
    assert lab.ending.termination == "cancelled"
    assert lab.session.capturing is None


async def test_a_callee_that_rings_too_long_is_cancelled(lab: Lab) -> None:
    agent, carrier = await two(lab, limits=CallLimits(no_answer=0.3))
    carrier.on_call = lambda call, now: call.session.provisional(180, now)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 408
    await ended(await taken(carrier))
    await lab.idle()
    assert lab.ending.termination == "no_answer"


@pytest.mark.parametrize("status", [503])
async def test_the_next_trunk_is_tried_after_503(lab: Lab, status: int) -> None:
    agent, first, second = [await lab.phone(username=name) for name in ("alice", "one", "two")]
    first.on_call = lambda call, now: call.session.reject(status, now)
    await lab.serve(first, second)
    call = await agent.call(lab.uri())
    far = await taken(second)
    assert call.rtp.far_end == (lab.host, lab.session.local(Side.AGENT).port)
    call.hang_up()
    await ended(far)
    await lab.idle()
    assert lab.ending.trunk == "trunk1"
    again = await agent.call(lab.uri())
    assert len(first.invites) == 1, "a trunk that failed lately is tried last"
    again.hang_up()


async def test_the_next_trunk_is_tried_after_silence(lab: Lab) -> None:
    agent, first, second = [await lab.phone(username=name) for name in ("alice", "one", "two")]
    await first.close()
    lab.phones.remove(first)
    await lab.serve(first, second, limits=CallLimits(trunk_timeout=0.2))
    call = await agent.call(lab.uri())
    call.hang_up()
    await lab.idle()
    assert lab.ending.trunk == "trunk1"


async def test_all_trunks_down_is_told(lab: Lab) -> None:
    agent, first, second = [await lab.phone(username=name) for name in ("alice", "one", "two")]
    for carrier in (first, second):
        carrier.on_call = lambda call, now: call.session.reject(503, now)
    await lab.serve(first, second)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 503


async def test_a_trunk_that_demands_credentials_gets_them(lab: Lab) -> None:
    """The carrier here is a second gateway that authenticates its callers."""
    agent, carrier = await lab.phone(username="alice"), await lab.phone(username="carrier")
    behind = Lab(lab.host, lab.transport)
    behind.add_agent("tenant", password="trunk-secret")
    await behind.serve(carrier, peers=False)
    port = behind.sip.endpoints[0].port
    await lab.serve(trunks=(Trunk("carrier", lab.host, port, "udp", "tenant", "trunk-secret", caller_id="tenant"),))
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    call.hang_up()
    await ended(far)
    await behind.close()


@EVERYWHERE
async def test_hold_and_resume_are_relayed(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    held = await call.hold()
    assert held.status == 200
    assert call.remote_direction == "recvonly"
    assert far.remote_direction == "sendonly"
    assert media_port(far.offers[-1].body) == lab.session.local(Side.PROSPECT).port
    resumed = await call.resume()
    assert resumed.status == 200
    assert far.remote_direction == "sendrecv"
    events = [entry[1] for entry in lab.session.log if entry[0] == "mark"]
    assert "hold" in events and "resume" in events
    call.hang_up()
    await ended(far)


async def test_the_prospect_holds(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    await asyncio.wait_for(far.answered, 10)
    assert (await far.hold()).status == 200
    assert call.remote_direction == "sendonly"
    call.hang_up()


async def test_update_changes_the_session(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    call.rtp.payload_type = far.rtp.payload_type = 8
    exchange = await call.offer(call.sdp(), "UPDATE")
    assert exchange.status == 200
    assert far.offers[-1].method == "UPDATE"
    assert lab.session.codecs[Side.AGENT][8].name == "PCMA"
    call.hang_up()


async def test_dtmf_in_info_is_relayed_and_other_info_refused(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    agent.act(lambda now: call.session.send_info("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", now))
    assert (await call.exchanges.get()).status == 200
    assert far.offers[-1].body == b"Signal=5\r\nDuration=160\r\n"
    agent.act(lambda now: call.session.send_info("text/plain", b"hush", now))
    assert (await call.exchanges.get()).status == 415
    assert len(far.offers) == 1
    call.hang_up()
    await ended(far)


async def test_the_agent_pauses_capture_by_info(lab: Lab) -> None:
    """By keys, which still reach the far end, and by a record key, which does not. The prospect's keys mean nothing."""
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)

    async def press(keys: str, phone: Phone, end: PhoneCall) -> None:
        for key in keys:
            body = f"Signal={key}\r\nDuration=160\r\n".encode()
            phone.act(lambda now, body=body: end.session.send_info("application/dtmf-relay", body, now))
            assert (await end.exchanges.get()).status == 200

    async def record(value: str, phone: Phone, end: PhoneCall) -> int:
        phone.act(lambda now: end.session.send_info("", b"", now, (("record", value),)))
        return (await end.exchanges.get()).status

    await press("*7", carrier, far)
    assert not lab.session.paused
    await press("*7", agent, call)
    assert lab.session.paused
    assert len(far.offers) == 2
    await press("*8", agent, call)
    assert not lab.session.paused
    assert await record("off", agent, call) == 200
    assert lab.session.paused
    assert await record("off", agent, call) == 200
    assert await record("on", carrier, far) == 415
    assert lab.session.paused
    assert await record("on", agent, call) == 200
    assert not lab.session.paused
    assert len(far.offers) == 4
    told = [entry for entry in lab.session.log if entry[0] in ("pause", "resume")]
    assert told == [(what, {"via": "info", "by": "agent"}) for what in ("pause", "resume", "pause", "resume")]
    call.hang_up()
    await ended(far)


async def test_capture_is_controlled_by_call_and_organization(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    (call_id,) = lab.table.calls
    for organization, name in (("other", call_id), ("acme", "nothing")):
        assert lab.table.control_capture(organization, name, Control.PAUSE, "boss") is None
    assert not lab.session.paused
    live = lab.table.control_capture("acme", call_id, Control.PAUSE, "boss")
    assert live is not None and live.paused
    assert lab.table.live("acme")[0].paused
    lab.table.control_capture("acme", call_id, Control.PAUSE, "boss")
    assert lab.session.log.count(("pause", {"via": "api", "by": "boss"})) == 1
    lab.table.control_capture("acme", call_id, Control.RESUME, "boss")
    assert not lab.session.paused
    call.hang_up()
    await ended(far)
    await lab.idle()
    assert lab.table.control_capture("acme", call_id, Control.PAUSE, "boss") is None


async def test_an_unchanged_offer_is_answered_here(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    body = call.session.invite.body
    exchange = await call.offer(body)
    assert exchange.status == 200
    assert media_port(exchange.response.body) == lab.session.local(Side.AGENT).port
    assert far.offers == []
    call.hang_up()


async def test_a_rejected_reinvite_leaves_the_call_as_it_was(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    before = dict(lab.session.remotes)
    carrier.on_offer = lambda session, exchange, now: exchange.respond(488, now)
    exchange = await call.hold()
    assert exchange.status == 488
    assert lab.session.remotes == before
    del carrier.on_offer
    assert (await call.hold()).status == 200
    call.hang_up()
    await ended(far)


async def test_crossing_reinvites_get_491_and_the_call_stands(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    await asyncio.wait_for(far.answered, 10)
    results = await asyncio.gather(call.hold(), far.hold())
    assert {r.status for r in results} <= {200, 491}
    assert 491 in {r.status for r in results}
    assert (await call.resume()).status == 200
    call.hang_up()
    await ended(far)


async def test_nothing_of_one_leg_shows_on_the_other(lab: Lab) -> None:
    agent, carrier = await two(lab, passed=frozenset({"x-campaign"}))
    headers = (
        ("x-secret", "agent-pc-7"), ("x-campaign", "spring"), ("x-prospect-state", "US-NH"),
        ("user-agent", "SecretPhone/1.0"), ("subject", "hush"), ("p-asserted-identity", "<sip:boss@10.1.2.3>"),
    )  # fmt: skip
    call = await agent.call(lab.uri(), headers=headers)
    invite = carrier.invites[0]
    text = bytes(invite).decode("latin-1")
    for hidden in ("agent-pc-7", "SecretPhone", "hush", "boss", "US-NH", f":{agent.port}", call.session.invite.call_id):
        assert hidden not in text
    assert invite.get("x-campaign") == "spring"
    assert invite.from_.tag != call.session.local_tag
    assert len(invite.all("via")) == 1
    call.hang_up()


async def test_the_state_header_is_believed_from_trusted_peers_alone(lab: Lab) -> None:
    agent, _ = await two(lab, trusted=True)
    call = await agent.call(lab.uri(), headers=(("x-prospect-state", "US-NH"),))
    assert lab.gate.asked[-1].state_header == "US-NH"
    call.hang_up()


async def test_the_state_header_of_others_is_ignored(lab: Lab) -> None:
    agent, _ = await two(lab)
    call = await agent.call(lab.uri(), headers=(("x-prospect-state", "US-NH"),))
    assert lab.gate.asked[-1].state_header is None
    call.hang_up()


@EVERYWHERE
async def test_an_agent_is_authenticated_by_digest(lab: Lab) -> None:
    agent = await lab.phone(username="alice", password="secret")
    carrier = await lab.phone()
    await lab.serve(carrier, peers=False)
    call = await agent.call(lab.uri())
    assert lab.gate.asked[-1].agent.username == "alice"
    assert carrier.invites[0].get("proxy-authorization") is None
    call.hang_up()


async def test_a_wrong_password_makes_no_call(lab: Lab) -> None:
    agent, carrier = await lab.phone(username="alice", password="wrong"), await lab.phone()
    await lab.serve(carrier, peers=False)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 407
    assert carrier.invites == []
    await lab.idle()


async def test_a_stranger_at_a_trusted_address_makes_no_call(lab: Lab) -> None:
    agent, carrier = await lab.phone(username="mallory"), await lab.phone()
    await lab.serve(carrier)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 403


@pytest.mark.parametrize("lab", ["127.0.0.1 udp", "::1 udp"], indirect=True)
async def test_a_registered_agent_is_called_by_did(lab: Lab) -> None:
    lab.add_agent("bob", did="+12125550111")
    softphone = await lab.phone(username="bob", password="secret")
    carrier = await lab.phone(username="+16035550100")
    await lab.serve(carrier)
    with pytest.raises(CallFailed) as failure:
        await carrier.call(lab.uri("+12125550111"))
    assert failure.value.status == 480
    assert (await softphone.register(lab.registrar)).status == 200
    call = await carrier.call(lab.uri("+12125550111"))
    ringing = await taken(softphone)
    caller = lab.gate.asked[-1]
    assert (caller.direction, caller.prospect_number, caller.agent.username) == ("inbound", "+16035550100", "bob")
    assert ringing.rtp.far_end == (lab.host, lab.session.local(Side.AGENT).port)
    call.hang_up()
    await ended(ringing)
    assert (await softphone.register(lab.registrar, expires=0)).status == 200
    with pytest.raises(CallFailed) as failure:
        await carrier.call(lab.uri("+12125550111"))
    assert failure.value.status == 480


async def test_colleagues_call_each_other_by_name_but_not_another_organization(lab: Lab) -> None:
    lab.add_agent("bob")
    lab.add_agent("eve", organization="other")
    alice, carrier = await two(lab)
    phones = [await lab.phone(username=name, password="secret") for name in ("bob", "eve")]
    for phone in phones:
        assert (await phone.register(lab.registrar)).status == 200
    call = await alice.call(lab.uri("bob"))
    await taken(phones[0])
    call.hang_up()
    stranger = await alice.call(lab.uri("eve"))
    await taken(carrier)
    assert phones[1].invites == []
    stranger.hang_up()


async def test_nobody_can_register_for_somebody_else(lab: Lab) -> None:
    lab.add_agent("bob")
    mallory = await lab.phone(username="bob", password="guess")
    await lab.serve(await lab.phone())
    assert (await mallory.register(lab.registrar)).status == 401


async def test_capture_waits_for_the_stored_decision_and_is_off_when_it_cannot_be(lab: Lab) -> None:
    agent, carrier = await two(lab)
    lab.store.journal.fail = RuntimeError("disk full")
    call = await agent.call(lab.uri())
    await taken(carrier)
    await lab.until(lambda: lab.session.capturing is not None)
    assert lab.session.capturing is CaptureMode.NONE
    call.hang_up()


async def test_no_ports_left_is_503(lab: Lab) -> None:
    agent, carrier = await two(lab)
    lab.media.fail = NoPortsLeft("none")
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 503
    await lab.idle()


async def test_more_calls_than_allowed_get_503(lab: Lab) -> None:
    agent, carrier = await two(lab, max_calls=1)
    call = await agent.call(lab.uri())
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 503
    call.hang_up()


async def test_dead_media_ends_the_call(lab: Lab) -> None:
    agent, carrier = await two(lab, limits=CallLimits(inactivity=0.4))
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    await ended(call)
    await ended(far)
    await lab.idle()
    assert lab.ending.termination == "media_timeout"


async def test_a_held_leg_may_be_silent(lab: Lab) -> None:
    agent, carrier = await two(lab, limits=CallLimits(inactivity=0.6))
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    await call.offer(call.sdp("inactive"))
    done, _ = await asyncio.wait([asyncio.ensure_future(far.ended.wait())], timeout=1.2)
    assert not done
    call.hang_up()
    await ended(far)


async def test_the_longest_duration_ends_the_call(lab: Lab) -> None:
    agent, carrier = await two(lab, limits=CallLimits(duration=0.3))
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    await ended(call)
    await ended(far)
    await lab.idle()
    assert lab.ending.termination == "time_limit"


async def test_draining_refuses_new_calls_and_hangs_up_what_stays(lab: Lab) -> None:
    agent, carrier = await two(lab)
    call = await agent.call(lab.uri())
    far = await taken(carrier)
    draining = asyncio.ensure_future(lab.table.drain(0.5))
    await lab.until(lambda: lab.table.draining)
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 503
    await draining
    await ended(call)
    await ended(far)
    assert lab.ending.termination == "shutdown"


async def test_unusable_sdp_in_the_answer_ends_both_legs(lab: Lab) -> None:
    agent, carrier = await two(lab)
    carrier.on_call = lambda call, now: call.session.answer(now, b"v=0\r\nm=video 9 RTP/AVP 31\r\n")
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 500
    await ended(await taken(carrier))


async def test_an_ack_without_the_answer_ends_both_legs(lab: Lab) -> None:
    agent, carrier = await two(lab)
    agent.on_answer = lambda session, response, now: (session.ack(now), agent.calls[session].answered.set_result(None))
    call = await agent.call(lab.uri(), late_offer=True)
    await ended(await taken(carrier))
    await ended(call)
    await lab.idle()
    assert lab.ending.termination == "failed"


async def test_an_answer_that_cannot_be_acked_fails_the_call(lab: Lab) -> None:
    agent, carrier = await two(lab)
    carrier.agent.contact = lambda flow, **_: "<sip:carrier@127.0.0.1:99999>"
    with pytest.raises(CallFailed) as failure:
        await agent.call(lab.uri())
    assert failure.value.status == 502
    await lab.idle()
    await lab.until(lambda: lab.table.agent.dialog_count == 0)


async def test_srtp_alone_is_not_acceptable(lab: Lab) -> None:
    agent, carrier = await two(lab)
    plain = PhoneCall.sdp
    try:
        PhoneCall.sdp = lambda self, *a: plain(self, *a).replace(b"RTP/AVP", b"RTP/SAVP")  # type: ignore[method-assign]
        with pytest.raises(CallFailed) as failure:
            await agent.call(lab.uri())
    finally:
        PhoneCall.sdp = plain  # type: ignore[method-assign]
    assert failure.value.status == 488
    assert carrier.invites == []


async def test_everything_is_forgotten_after_the_calls(lab: Lab) -> None:
    agent, carrier = await two(lab)
    for _ in range(5):
        call = await agent.call(lab.uri())
        far = await taken(carrier)
        call.hang_up()
        await ended(far)
    await lab.idle()
    await lab.until(lambda: lab.table.agent.dialog_count == 0)
