"""The message parser and the user agent against messages made to break them, and against an independent parser."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from urllib.parse import unquote

import pytest
import sipmessage

from gateway.sip.errors import ParseError, SipError
from gateway.sip.flow import Flow
from gateway.sip.framing import Framer
from gateway.sip.message import MAX_MESSAGE, Message, Request, Response, parse
from gateway.sip.sdp import SdpError, SessionDescription
from gateway.sip.uri import NameAddr, Uri
from gateway.sip.user_agent import Endpoint, UserAgent
from tests.support.mutator import cut, mutations, packet_mutations, stream_mutations
from tests.support.sip_corpus import MESSAGES, sip
from tests.support.sip_torture import CASES, CHECK, INVALID, OK, PARSE, URI, VALID, Case


def named(case: Case) -> str:
    return case.name


def value_at(message: Message, path: str) -> object:
    if path.startswith("header:"):
        return message.get(path.removeprefix("header:"))
    found: object = message
    for name in path.split("."):
        found = getattr(found, name)
    return found


def comes_to(data: bytes) -> tuple[str, int]:
    """Where a message is refused, if it is, and with which status."""
    try:
        message = parse(data)
    except ParseError as error:
        return PARSE, error.status
    try:
        message.check()
    except ParseError as error:
        return CHECK, error.status
    try:
        if isinstance(message, Request):
            Uri.parse(message.uri)
    except ParseError as error:
        return URI, error.status
    return OK, 0


@pytest.mark.parametrize("case", VALID, ids=named)
def test_strange_but_valid_messages_are_read_right(case: Case) -> None:
    message = parse(case.data)
    message.check()
    assert {path: value_at(message, path) for path in case.values} == case.values


@pytest.mark.parametrize("case", INVALID, ids=named)
def test_invalid_messages_are_refused_where_they_should_be(case: Case) -> None:
    assert comes_to(case.data) == (case.comes_to, case.status)


@pytest.mark.parametrize("name", MESSAGES)
def test_ordinary_messages_pass_and_print_themselves(name: str) -> None:
    message = parse(MESSAGES[name])
    message.check()
    again = parse(bytes(message))
    assert type(again) is type(message) and again.start_line() == message.start_line()
    assert again.body == message.body
    assert [h for h in again.headers if h[0] != "content-length"] == [
        h for h in message.headers if h[0] != "content-length"
    ]


@pytest.mark.parametrize("case", VALID, ids=named)
def test_what_was_read_prints_to_the_same(case: Case) -> None:
    message = parse(case.data)
    again = parse(bytes(message))
    again.check()
    assert {path: value_at(again, path) for path in case.values} == case.values


def test_a_value_never_carries_a_line_break_on() -> None:
    for lone in ("\r", "\r\r", "\r\n ", "\n\t", "\r\n\r\r "):
        message = parse(sip("OPTIONS sip:a@b SIP/2.0", f"X-Passed: one{lone}Via: SIP/2.0/UDP 6.6.6.6", "Subject: s"))
        lines = bytes(message).split(b"\r\n")
        assert not any(b"\r" in line or b"\n" in line for line in lines)
        assert not any(line.startswith(b"Via") for line in lines)


# -- sipmessage as an oracle -------------------------------------------------------------------------------------------


def oracle(data: bytes) -> sipmessage.Request | sipmessage.Response | None:
    try:
        return sipmessage.Message.parse(data)
    except Exception:  # it raises other things than ValueError too
        return None


def same_address(ours: NameAddr, theirs: sipmessage.Address) -> None:
    uri = ours.uri
    assert (uri.scheme, uri.host, uri.port) == (
        theirs.uri.scheme,
        theirs.uri.host.strip("[]").lower().replace(":::", "::"),
        theirs.uri.port,
    )
    assert (None if uri.user is None else unquote(uri.user)) == theirs.uri.user
    if "\\" not in ours.display:
        assert ours.display_name == (theirs.name or "").encode().decode("latin-1")


LONE_BREAK = re.compile(rb"\r(?!\n)|(?<!\r)\n")
ACCESSORS = {"from_": "from_address", "to": "to_address"}


def compare(ours: Request | Response, theirs: sipmessage.Request | sipmessage.Response) -> int:
    """How many things both could read; each of them alike, but for the differences listed here.

    Differences: sipmessage takes the last of repeated headers and of a list of addresses, reads text as UTF-8, undoes
    escapes in user parts but not all of those in display names, rewrites tags, does not cut the body by Content-Length,
    and knows no line end but CRLF (messages with others are not compared at all).
    """
    assert theirs.body.startswith(ours.body)
    agreed = 0
    for mine, other in ACCESSORS.items():
        header = mine.rstrip("_")
        if len(ours.all(header)) != 1:
            continue
        try:
            address, expected = getattr(ours, mine), getattr(theirs, other)
            _ = address.uri
        except Exception:
            continue
        same_address(address, expected)
        agreed += 1
    for mine in ("cseq", "call_id", "via"):
        if len(ours.all(mine.replace("_", "-"))) != 1:
            continue
        try:
            value, expected = getattr(ours, mine), getattr(theirs, mine)
        except Exception:
            continue
        if mine == "cseq":
            assert value == (expected.sequence, expected.method)
        elif mine == "call_id":
            assert value == expected.encode().decode("latin-1")
        elif expected:
            top = expected[0]
            assert (value.transport, value.host, value.port) == (
                top.transport.upper(),
                top.host.strip("[]").lower(),
                top.port,
            )
        agreed += 1
    return agreed


def test_ordinary_messages_mean_the_same_to_an_independent_parser() -> None:
    agreed = 0
    for data in MESSAGES.values():
        theirs = oracle(data)
        if theirs is None:
            continue
        ours = parse(data)
        assert isinstance(ours, Request) == isinstance(theirs, sipmessage.Request)
        if isinstance(ours, Request):
            assert ours.method == theirs.method
        else:
            assert (ours.status, ours.reason) == (theirs.code, theirs.phrase)
        agreed += compare(ours, theirs)
    assert agreed >= 4 * len(MESSAGES)


# -- mutated messages --------------------------------------------------------------------------------------------------


def test_the_mutator_repeats_itself_and_is_not_dull() -> None:
    first = list(mutations(7, 3000))
    assert first == list(mutations(7, 3000)) and first != list(mutations(8, 3000))
    assert len(set(first)) > 2800 and max(map(len, first)) <= MAX_MESSAGE
    assert any(len(data) > 60_000 for data in first)
    outcomes = {comes_to(data)[0] for data in first}
    assert outcomes == {OK, PARSE, CHECK, URI}
    packets = list(packet_mutations(7, 1000))
    assert packets == list(packet_mutations(7, 1000)) and len(set(packets)) > 900
    streams = list(stream_mutations(7, 50))
    assert streams == list(stream_mutations(7, 50)) and any(len(chunks) > 3 for chunks in streams)


def touch(message: Request | Response) -> None:
    """Read all that can be read; each of it may raise ParseError, and nothing else."""
    for name in ("via", "call_id", "cseq", "from_", "to", "contact", "content_type", "max_forwards", "check"):
        try:
            value = getattr(message, name, None)
            if callable(value):
                value()
            if isinstance(value, NameAddr):
                _ = value.uri.username, value.display_name, str(value.uri), str(value)
        except ParseError:
            pass
    for name in ("route", "record-route", "require", "supported"):
        try:
            message.values(name)
            message.tokens(name)
        except ParseError:
            pass


def test_mutated_messages_raise_nothing_but_parse_errors() -> None:
    accepted = 0
    for data in mutations(11, 8000):
        try:
            message = parse(data)
        except ParseError as error:
            assert error.status in (400, 505, 513)
            continue
        touch(message)
        parse(bytes(message)[:MAX_MESSAGE])
        try:
            SessionDescription.parse(message.body)
        except SdpError as error:
            assert error.status == 400
        accepted += 1
    assert 2000 < accepted < 8000


@dataclass
class Watcher:
    """A user agent's handler that wants no calls, and keeps what should not have happened."""

    malformed: int = 0
    exceptions: list[Exception] = field(default_factory=list)

    def on_invite(self, session: object, request: Request, now: float) -> None:
        raise SipError(486)

    def on_register(self, transaction: object, request: Request, now: float) -> None:
        raise SipError(403)

    def on_malformed(self, flow: Flow, error: SipError) -> None:
        self.malformed += 1

    def on_exception(self, error: Exception) -> None:
        self.exceptions.append(error)


def user_agent() -> tuple[UserAgent, Watcher]:
    watcher = Watcher()
    numbers = iter(range(10**9))
    agent = UserAgent(
        watcher,
        [Endpoint("udp", "192.0.2.1", 5060)],
        token=lambda: f"{next(numbers):016x}",
        choose=lambda low, high: low,
    )
    return agent, watcher


FLOW = Flow("udp", "192.0.2.1", 5060, "192.0.2.10", 5060)


def test_mutated_messages_leave_the_user_agent_serving() -> None:
    agent, watcher = user_agent()
    for count, data in enumerate(mutations(13, 4000)):
        agent.receive(data, FLOW, count / 1000)
        for flow, sent in agent.take():
            assert 0 < flow.remote_port <= 65535 and parse(sent)
    assert watcher.exceptions == [] and watcher.malformed > 500
    agent.advance(1e6)
    agent.take()
    agent.receive(MESSAGES["options"], FLOW, 1e6)
    assert [parse(sent).start_line() for _, sent in agent.take()] == ["SIP/2.0 200 OK"]
    assert watcher.exceptions == []


@pytest.mark.parametrize("case", [case for case in CASES if case.comes_to != PARSE], ids=named)
def test_torture_leaves_the_user_agent_without_exception(case: Case) -> None:
    agent, watcher = user_agent()
    agent.receive(case.data, FLOW, 0)
    sent = [parse(data) for _, data in agent.take()]
    assert watcher.exceptions == []
    answered = [message.status for message in sent if isinstance(message, Response) and message.status >= 200]
    if case.comes_to in (CHECK, URI) and case.name not in ("scalarlg", "no-via", "via-port"):
        assert answered == [case.status]


def test_mutated_streams_end_in_frames_or_a_parse_error() -> None:
    broken = whole = 0
    for chunks in stream_mutations(17, 1500):
        framer = Framer()
        try:
            for chunk in chunks:
                for frame in framer.feed(chunk):
                    assert len(frame) <= MAX_MESSAGE
                    whole += 1
        except ParseError:
            broken += 1
    assert whole > 1500 and broken > 0


def test_streams_of_whole_messages_come_out_whole_however_they_are_cut() -> None:
    random = Random(5)
    messages = list(MESSAGES.values())
    for _ in range(60):
        sent = random.choices(messages, k=5)
        framer, got = Framer(), []
        for chunk in cut(random, b"".join(sent)):
            got += framer.feed(chunk)
        assert got == sent


def test_mutated_messages_that_both_parsers_take_mean_the_same() -> None:
    both = agreed = 0
    for data in mutations(19, 4000):
        try:
            ours = parse(data)
            ours.check()
        except ParseError:
            continue
        theirs = oracle(data)
        if theirs is not None and not LONE_BREAK.search(data.partition(b"\r\n\r\n")[0]):
            both += 1
            agreed += compare(ours, theirs)
    assert both > 500 and agreed > 3 * both
