"""The four state machines of RFC 3261 17 and RFC 6026, by the clock."""

from __future__ import annotations

import pytest

from gateway.sip.message import Request, parse
from gateway.sip.transaction import ClientTransaction, State
from tests.support.sip_wire import TCP, UDP, Layer, answer, request

T1 = 0.5


def client(layer: Layer, method: str, flow=UDP) -> ClientTransaction:
    headers = [
        ("from", "<sip:us@192.0.2.1>;tag=l"), ("to", "<sip:bob@192.0.2.10>"), ("call-id", "c"),
        ("cseq", f"1 {method}"), ("max-forwards", "70"),
    ]  # fmt: skip
    return layer.layer.request(Request(method, "sip:bob@192.0.2.10", headers), flow, "192.0.2.1:5060", "z9hG4bKx", 0.0)


def test_an_invite_is_repeated_at_t1_doubling_and_given_up_after_64_t1() -> None:
    layer = Layer()
    made = client(layer, "INVITE")
    layer.until(100)
    assert layer.times() == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert layer.failures == [408]
    assert made.state is State.TERMINATED
    assert len(layer.layer) == 0


def test_other_requests_are_repeated_up_to_t2() -> None:
    layer = Layer()
    client(layer, "OPTIONS")
    layer.until(100)
    assert layer.times() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert layer.failures == [408]


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_nothing_is_repeated_over_a_stream(method: str) -> None:
    layer = Layer()
    client(layer, method, TCP)
    layer.until(100)
    assert layer.times() == [0]
    assert layer.failures == [408]


def test_a_provisional_stops_repeating_an_invite_and_ringing_has_no_end_here() -> None:
    layer = Layer()
    client(layer, "INVITE")
    layer.receive(answer(layer.sent[0].data, 180))
    layer.until(1000)
    assert layer.times() == [0]
    assert (layer.responses, layer.failures) == ([180], [])


def test_a_provisional_slows_other_requests_to_t2() -> None:
    layer = Layer()
    client(layer, "OPTIONS")
    layer.until(0.1)
    layer.receive(answer(layer.sent[0].data, 100))
    layer.until(20)
    assert layer.times() == [0, 0.5, 4.5, 8.5, 12.5, 16.5]


def test_a_failure_is_acked_each_time_it_comes_and_told_once() -> None:
    layer = Layer()
    client(layer, "INVITE")
    for _ in range(3):
        layer.receive(answer(layer.sent[0].data, 486))
    assert layer.responses == [486]
    acks = [sent.message for sent in layer.sent[1:]]
    assert [ack.method for ack in acks if isinstance(ack, Request)] == ["ACK"] * 3
    invite = parse(layer.sent[0].data)
    assert acks[0].via.branch == invite.via.branch
    assert acks[0].cseq == (1, "ACK")
    assert acks[0].to.tag == "b"
    layer.until(31.9)
    assert len(layer.layer) == 1
    layer.until(32.1)
    assert len(layer.layer) == 0


def test_every_2xx_is_told_for_64_t1() -> None:
    """RFC 6026: forks answer later, and each answer is the user's to ACK."""
    layer = Layer()
    client(layer, "INVITE")
    for tag in ("b", "c", "b"):
        layer.receive(answer(layer.sent[0].data, 200, tag=tag))
    assert layer.responses == [200, 200, 200]
    layer.until(31)
    layer.receive(answer(layer.sent[0].data, 200, tag="d"))
    layer.until(33)
    layer.receive(answer(layer.sent[0].data, 200, tag="e"))
    assert layer.responses == [200] * 4
    assert layer.times() == [0]


def test_a_failure_of_the_transport_is_told_at_once() -> None:
    layer = Layer()
    client(layer, "INVITE")
    layer.layer.transport_failed(UDP, 0.1)
    layer.until(100)
    assert layer.failures == [503]
    assert layer.times() == [0]


def server(layer: Layer, data: bytes, flow=UDP):
    layer.receive(data, flow)
    return layer.requests[-1]


def respond(layer: Layer, status: int) -> bool:
    made = layer.requests[-1]
    return made.respond(made.request.response(status, to_tag="s"), layer.now)


def test_a_repeated_invite_is_answered_with_the_last_response() -> None:
    layer = Layer()
    server(layer, request("INVITE"))
    respond(layer, 180)
    layer.receive(request("INVITE"))
    layer.receive(request("INVITE"))
    assert len(layer.requests) == 1
    assert [sent.what for sent in layer.sent] == ["180"] * 3


def test_a_failure_is_repeated_until_its_ack() -> None:
    layer = Layer()
    made = server(layer, request("INVITE"))
    respond(layer, 486)
    layer.until(3)
    assert layer.times() == [0, 0.5, 1.5]
    layer.receive(request("ACK", to_tag="s"))
    assert made.state is State.CONFIRMED
    layer.until(7.9)
    assert layer.times() == [0, 0.5, 1.5]
    assert layer.acks == []
    layer.until(8.1)
    assert len(layer.layer) == 0


def test_a_failure_that_is_never_acked_is_forgotten_after_64_t1() -> None:
    layer = Layer()
    server(layer, request("INVITE"))
    respond(layer, 486)
    layer.until(31.9)
    assert len(layer.layer) == 1
    layer.until(32.1)
    assert len(layer.layer) == 0
    assert layer.times()[:6] == [0, 0.5, 1.5, 3.5, 7.5, 11.5]


def test_an_accepted_invite_absorbs_repeats_and_passes_acks() -> None:
    """RFC 6026 8.5: the 2xx is the user's to repeat."""
    layer = Layer()
    made = server(layer, request("INVITE"))
    respond(layer, 200)
    layer.receive(request("INVITE"))
    layer.until(10)
    assert layer.times() == [0]
    assert made.state is State.ACCEPTED
    assert not respond(layer, 486)
    layer.receive(request("ACK", branch="z9hG4bKack", to_tag="s"))
    assert len(layer.acks) == 1
    layer.until(33)
    assert len(layer.layer) == 0


def test_a_request_with_its_answer_is_remembered_for_64_t1_over_udp_alone() -> None:
    layer = Layer()
    server(layer, request("BYE", to_tag="s"))
    respond(layer, 200)
    layer.until(20)
    layer.receive(request("BYE", to_tag="s"))
    assert [sent.what for sent in layer.sent] == ["200", "200"]
    assert len(layer.requests) == 1
    layer.until(32.1)
    assert len(layer.layer) == 0
    stream = Layer()
    server(stream, request("BYE", to_tag="s", transport="TCP"), TCP)
    respond(stream, 200)
    assert len(stream.layer) == 0


def test_one_final_response_is_all_that_goes_out() -> None:
    layer = Layer()
    server(layer, request("OPTIONS"))
    assert respond(layer, 200)
    assert not respond(layer, 500)
    assert [sent.what for sent in layer.sent] == ["200"]


def test_requests_differ_by_branch_sent_by_and_method() -> None:
    """RFC 3261 17.2.3; an old peer's branch (RFC 2543) says nothing."""
    layer = Layer()
    layer.receive(request("OPTIONS"))
    layer.receive(request("INFO"))
    layer.receive(request("OPTIONS", branch="z9hG4bK2"))
    layer.receive(request("OPTIONS").replace(b"192.0.2.10:5060;branch", b"192.0.2.11:5060;branch"))
    assert len(layer.requests) == 4
    layer.receive(request("OPTIONS", branch="1", call_id="x"))
    layer.receive(request("OPTIONS", branch="1", call_id="y"))
    layer.receive(request("OPTIONS", branch="1", call_id="y"))
    assert len(layer.requests) == 6


def test_responses_go_where_the_via_and_the_source_say() -> None:
    """RFC 3261 18.2.2, RFC 3581."""
    layer = Layer()
    server(layer, request("OPTIONS").replace(b";branch", b";rport;branch"))
    respond(layer, 200)
    assert (layer.sent[0].flow.remote_host, layer.sent[0].flow.remote_port) == ("192.0.2.10", 5060)
    via = layer.sent[0].message.via
    assert "rport" in str(layer.sent[0].data)
    assert via.branch == "z9hG4bK1"


def test_a_response_that_nobody_waits_for_is_dropped() -> None:
    layer = Layer()
    client(layer, "OPTIONS")
    stray = answer(layer.sent[0].data, 200).replace(b"z9hG4bKx", b"z9hG4bKy")
    layer.receive(stray)
    assert layer.responses == []
