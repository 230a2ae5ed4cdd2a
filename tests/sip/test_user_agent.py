"""Dialogs and INVITE sessions, message by message and by the clock."""

from __future__ import annotations

import pytest

from gateway.sip.invite import SessionState
from gateway.sip.message import Request, Response
from tests.support.sip_wire import TCP, Wire, answer, request


def called(wire: Wire | None = None) -> tuple[Wire, str]:
    """A call that came in and was answered and ACKed; our tag."""
    wire = wire or Wire()
    wire.receive(request("INVITE"))
    wire.sessions[0].answer(wire.now, b"")
    wire.act()
    tag = wire.last("200").message.to.tag or ""
    wire.receive(request("ACK", branch="z9hG4bKack", to_tag=tag))
    assert wire.told.events == ["ack"]
    return wire, tag


def calling() -> Wire:
    """A call of ours that was answered and ACKed."""
    wire = Wire()
    wire.invite()
    wire.receive(answer(wire.sent[0].data, 200, extra=("Contact: <sip:bob@192.0.2.10:5070>",)))
    assert [sent.what for sent in wire.sent] == ["INVITE", "ACK"]
    return wire


# -- outside dialogs -----------------------------------------------


def test_options_is_answered_with_what_we_can() -> None:
    wire = Wire()
    assert wire.receive(request("OPTIONS")) == ["200"]
    response = wire.sent[0].message
    assert "INVITE" in (response.get("allow") or "")
    assert response.get("accept") == "application/sdp"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("BYE", to_tag="gone"), 481),
        (request("INVITE", to_tag="gone"), 481),
        (request("CANCEL"), 481),
        (request("UPDATE"), 481),
        (request("SUBSCRIBE"), 405),
        (request("FROBNICATE"), 501),
        (request("INVITE", extra=("Require: 100rel",)), 420),
        (request("INVITE").replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), 483),
        (request("INVITE", uri="mailto:bob@192.0.2.1"), 416),
        (request("INVITE", uri="sips:bob@192.0.2.1"), 403),
        (request("INVITE", extra=("Content-Type: text/plain",), body=b"x"), 415),
        (request("INVITE", extra=("Content-Encoding: gzip", "Content-Type: application/sdp"), body=b"x"), 415),
        (request("REGISTER"), 404),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_status(data: bytes, status: int) -> None:
    wire = Wire()
    assert [what for what in wire.receive(data) if what != "100"] == [str(status)]
    assert wire.defects == []


def test_an_ack_is_never_answered() -> None:
    wire = Wire()
    assert wire.receive(request("ACK", to_tag="gone")) == []
    assert wire.receive(request("ACK").replace(b"CSeq: 1 ACK", b"CSeq: x ACK")) == []


def test_a_merged_request_is_a_loop() -> None:
    """RFC 3261 8.2.2.2: the same call by another way."""
    wire = Wire()
    assert wire.receive(request("INVITE")) == ["100"]
    assert wire.receive(request("INVITE", branch="z9hG4bKother")) == ["482"]
    assert len(wire.sessions) == 1


# -- as the called side -----------------------------------------------


def test_our_200_is_repeated_until_its_ack() -> None:
    wire = Wire()
    wire.receive(request("INVITE"))
    wire.sessions[0].answer(0, b"")
    wire.act()
    assert wire.until(4) == ["200", "200", "200"]
    tag = wire.last("200").message.to.tag or ""
    wire.receive(request("ACK", branch="z9hG4bKack", to_tag=tag))
    assert wire.until(60) == []
    assert wire.sessions[0].state is SessionState.CONFIRMED


def test_a_200_that_is_never_acked_ends_in_bye() -> None:
    """RFC 3261 13.3.1.4: 64*T1, then BYE."""
    wire = Wire(TCP)
    wire.receive(request("INVITE", transport="TCP"))
    wire.sessions[0].answer(0, b"")
    wire.act()
    assert "200" in wire.until(31.9), "it is repeated over a stream, too"
    assert wire.told.events == []
    assert wire.until(33)[-1] == "BYE"
    assert wire.told.events == ["lost 408"]


def test_cancel_before_the_answer() -> None:
    wire = Wire()
    wire.receive(request("INVITE"))
    wire.sessions[0].provisional(180, 0)
    wire.act()
    assert wire.receive(request("CANCEL")) == ["200", "487"]
    assert wire.told.events == ["cancel"]
    wire.sessions[0].answer(1, b"")
    assert wire.act() == []


def test_cancel_after_the_answer_changes_nothing() -> None:
    wire = Wire()
    wire.receive(request("INVITE"))
    wire.sessions[0].answer(0, b"")
    wire.act()
    assert wire.receive(request("CANCEL")) == ["200"]
    assert wire.told.events == []


def test_bye_ends_the_dialog_and_a_second_one_finds_none() -> None:
    wire, tag = called()
    assert wire.receive(request("BYE", branch="z9hG4bKb", cseq=2, to_tag=tag)) == ["200"]
    assert wire.told.events[-1] == "bye"
    assert wire.receive(request("BYE", branch="z9hG4bKc", cseq=3, to_tag=tag)) == ["481"]


def test_a_bye_of_ours_waits_for_the_ack() -> None:
    """RFC 3261 15: not before the ACK of the 200."""
    wire = Wire()
    wire.receive(request("INVITE"))
    session = wire.sessions[0]
    session.answer(0, b"")
    session.bye(0.1)
    assert wire.act() == ["200"]
    tag = wire.last("200").message.to.tag or ""
    assert wire.receive(request("ACK", branch="z9hG4bKack", to_tag=tag)) == ["BYE"]


def test_requests_out_of_order_get_500() -> None:
    """RFC 3261 12.2.2."""
    wire, tag = called()
    assert wire.receive(request("INFO", branch="z9hG4bKi", cseq=5, to_tag=tag)) == ["200"]
    assert wire.receive(request("INFO", branch="z9hG4bKj", cseq=4, to_tag=tag)) == ["500"]


def test_a_re_invite_while_ours_is_out_is_glare() -> None:
    wire, tag = called()
    wire.sessions[0].send_offer("INVITE", wire.now, b"v=0")
    assert wire.act() == ["INVITE"]
    what = wire.receive(request("INVITE", branch="z9hG4bKr", cseq=2, to_tag=tag))
    assert what[-1] == "491"
    assert "offer INVITE" not in wire.told.events


def test_a_re_invite_before_the_last_was_answered_gets_500_with_a_time_to_wait() -> None:
    """RFC 3261 14.2."""
    wire, tag = called()
    wire.receive(request("INVITE", branch="z9hG4bKr", cseq=2, to_tag=tag))
    assert wire.told.events[-1] == "offer INVITE"
    assert wire.receive(request("INVITE", branch="z9hG4bKs", cseq=3, to_tag=tag))[-1] == "500"
    assert wire.last("500").message.get("retry-after") is not None


def test_a_re_invite_refreshes_the_target_and_its_200_is_repeated() -> None:
    wire, tag = called()
    moved = request("INVITE", branch="z9hG4bKr", cseq=2, to_tag=tag).replace(
        b"Contact: <sip:alice@192.0.2.10:5060>", b"Contact: <sip:alice@192.0.2.99:5099>"
    )
    wire.receive(moved)
    wire.told.exchanges[0].respond(200, wire.now)
    wire.act()
    assert wire.until(1.6)[:2] == ["200", "200"]
    wire.receive(request("ACK", branch="z9hG4bKack2", cseq=2, to_tag=tag))
    assert wire.told.events[-1] == "ack of offer"
    wire.sessions[0].bye(wire.now)
    wire.act()
    bye = wire.last("BYE").message
    assert isinstance(bye, Request)
    assert bye.uri == "sip:alice@192.0.2.99:5099"


def test_record_route_is_kept_in_order_and_followed() -> None:
    """RFC 3261 12.1.1, 12.2.1.1: loose routing."""
    wire = Wire()
    routes = ("Record-Route: <sip:p2.example;lr>", "Record-Route: <sip:192.0.2.10;lr>")
    wire.receive(request("INVITE", extra=routes))
    wire.sessions[0].answer(0, b"")
    wire.act()
    response = wire.last("200").message
    assert response.all("record-route") == ["<sip:p2.example;lr>", "<sip:192.0.2.10;lr>"]


# -- as the calling side -----------------------------------------------


def test_every_200_gets_an_ack() -> None:
    wire = calling()
    for _ in range(3):
        wire.receive(answer(wire.sent[0].data, 200, extra=("Contact: <sip:bob@192.0.2.10:5070>",)))
    assert [sent.what for sent in wire.sent] == ["INVITE"] + ["ACK"] * 4
    assert wire.told.events == ["answer"]
    ack = wire.sent[1].message
    assert isinstance(ack, Request)
    assert ack.uri == "sip:bob@192.0.2.10:5070"


def test_a_second_fork_that_answers_is_acked_and_hung_up() -> None:
    wire = calling()
    what = wire.receive(answer(wire.sent[0].data, 200, tag="fork", extra=("Contact: <sip:carol@192.0.2.10>",)))
    assert what == ["ACK", "BYE"]
    assert wire.last("BYE").message.to.tag == "fork"
    assert wire.told.events == ["answer"]


def test_cancel_waits_for_a_provisional() -> None:
    """RFC 3261 9.1."""
    wire = Wire()
    session = wire.invite()
    session.cancel(0.1)
    assert wire.act() == []
    assert wire.receive(answer(wire.sent[0].data, 180)) == ["CANCEL"]
    invite, cancel = wire.sent[0].message, wire.last("CANCEL").message
    assert isinstance(cancel, Request)
    assert cancel.via.branch == invite.via.branch
    assert wire.receive(answer(wire.sent[0].data, 487)) == ["ACK"]
    assert wire.told.events[-1] == "reject 487"


def test_an_answer_that_crosses_our_cancel_is_acked_and_hung_up() -> None:
    wire = Wire()
    session = wire.invite()
    wire.receive(answer(wire.sent[0].data, 180))
    session.cancel(0.1)
    assert wire.act() == ["CANCEL"]
    what = wire.receive(answer(wire.sent[0].data, 200, extra=("Contact: <sip:bob@192.0.2.10>",)))
    assert what == ["ACK", "BYE"]
    assert "answer" not in wire.told.events


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_refusal_is_acked_and_told(status: int) -> None:
    wire = Wire()
    wire.invite()
    assert wire.receive(answer(wire.sent[0].data, status)) == ["ACK"]
    assert wire.told.events == [f"reject {status}"]


def test_silence_is_a_timeout() -> None:
    wire = Wire()
    wire.invite()
    wire.until(40)
    assert wire.told.events == ["reject 408"]


def test_a_challenge_is_answered_once() -> None:
    wire = Wire()
    session = wire.agent.invite(wire, wire.flow, "local")
    session.credentials = ("us", "secret")
    headers = [
        ("max-forwards", "70"), ("from", "<sip:us@192.0.2.1>;tag=local"), ("to", "<sip:bob@192.0.2.10>"),
        ("call-id", "ours"), ("cseq", "1 INVITE"), ("contact", "<sip:us@192.0.2.1>"),
    ]  # fmt: skip
    session.start(Request("INVITE", "sip:bob@192.0.2.10", headers), 0)
    wire.act()
    challenge = ('Proxy-Authenticate: Digest realm="x", nonce="n", algorithm=MD5, qop="auth"',)
    assert wire.receive(answer(wire.sent[0].data, 407, extra=challenge)) == ["ACK", "INVITE"]
    again = wire.last("INVITE").message
    assert again.cseq == (2, "INVITE")
    assert 'username="us"' in (again.get("proxy-authorization") or "")
    assert wire.receive(answer(wire.last("INVITE").data, 407, extra=challenge)) == ["ACK"]
    assert wire.told.events[-1] == "reject 407"


def test_a_stale_nonce_is_answered_again_but_not_for_ever() -> None:
    """RFC 7616 3.3: stale says that the password was right."""
    wire = Wire()
    session = wire.invite()
    session.credentials = ("us", "secret")
    for count in range(3):
        tail = ", stale=true" if count else ""
        challenge = (f'Proxy-Authenticate: Digest realm="x", nonce="n{count}", algorithm=SHA-256, qop="auth"{tail}',)
        assert wire.receive(answer(wire.last("INVITE").data, 407, extra=challenge)) == ["ACK", "INVITE"]
        assert f'nonce="n{count}"' in (wire.last("INVITE").message.get("proxy-authorization") or "")
    challenge = ('Proxy-Authenticate: Digest realm="x", nonce="n9", algorithm=SHA-256, qop="auth", stale=true',)
    assert wire.receive(answer(wire.last("INVITE").data, 407, extra=challenge)) == ["ACK"]
    assert wire.told.events[-1] == "reject 407"


def test_a_491_to_ours_is_told_and_the_dialog_lives() -> None:
    wire = calling()
    wire.sessions[0].send_offer("INVITE", wire.now, b"v=0")
    assert wire.act() == ["INVITE"]
    wire.receive(answer(wire.last("INVITE").data, 491))
    assert wire.told.events[-1] == "result 491"
    assert wire.sessions[0].state is SessionState.CONFIRMED


@pytest.mark.parametrize("status", [408, 481])
def test_a_dialog_that_the_far_end_does_not_know_is_lost(status: int) -> None:
    """RFC 3261 12.2.1.2."""
    wire = calling()
    wire.sessions[0].send_offer("UPDATE", wire.now, b"v=0")
    wire.act()
    wire.receive(answer(wire.last("UPDATE").data, status))
    assert any(event.startswith("lost") for event in wire.told.events)


def test_nothing_is_left_of_a_call() -> None:
    wire = calling()
    wire.sessions[0].bye(wire.now)
    assert wire.act() == ["BYE"]
    wire.receive(answer(wire.last("BYE").data, 200))
    wire.until(200)
    assert len(wire.agent.layer) == 0
    assert wire.agent.next_deadline() is None
    assert wire.receive(request("BYE", call_id="ours", to_tag="local")) == ["481"]


def test_responses_carry_our_contact_and_nothing_of_anybody_else() -> None:
    wire, _ = called()
    response = wire.last("200").message
    assert isinstance(response, Response)
    assert "192.0.2.1:5060" in (response.get("contact") or "")
    assert response.get("x-secret") is None
