"""The guard before a user agent, in memory: what strangers get, what bans them, what can't be turned on others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from gateway.guard.guard import Guard, GuardLimits, Known
from gateway.sip.digest import MD5, SHA256, DigestServer, Ha1Pair, Verdict, authorization_for, ha1
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.invite import InviteSession
from gateway.sip.message import Request, Response, parse
from gateway.sip.transaction import ServerTransaction
from gateway.sip.user_agent import Endpoint, UserAgent
from tests.support.mutator import mutations
from tests.support.sip_corpus import MESSAGES, SDP, sip

HOST, REALM = "192.0.2.1", "gw.example"
STRANGER = Flow("udp", HOST, 5060, "198.51.100.7", 5080)
TRUNK = Flow("udp", HOST, 5060, "203.0.113.5", 5060)
PHONE = (
    "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REFER, MESSAGE, UPDATE",
    "Supported: path, gruu, outbound", "User-Agent: Phone/1.0", "Expires: 3600",
)  # fmt: skip
METHODS = {"REGISTER": ("authorization", "www-authenticate"), "INVITE": ("proxy-authorization", "proxy-authenticate")}


@dataclass
class Told:
    """What the guard counted."""

    drops: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    bans: list[str] = field(default_factory=list)
    failures: int = 0

    def dropped(self, reason: str, flow: Flow) -> None:
        self.drops.append(reason)

    def refused(self, reason: str, flow: Flow) -> None:
        self.refusals.append(reason)

    def banned(self, end: str, flow: Flow) -> None:
        self.bans.append(end)

    def failed(self, flow: Flow) -> None:
        self.failures += 1


class World:
    """A guarded user agent; its handler authenticates and answers."""

    def __init__(self, *, known: dict[str, Known] | None = None, algorithms: tuple[str, ...] = (MD5,),
                 **limits: object) -> None:  # fmt: skip
        self.now = 1000.0
        self.told = Told()
        self.numbers = itertools.count(1)
        self.digest = DigestServer(REALM, b"s" * 32, algorithms=algorithms)
        table = {TRUNK.remote_host: Known("trunk")} if known is None else known
        self.guard = Guard(
            GuardLimits(**limits), lambda flow: table.get(flow.remote_host), self.digest, self.token, self.told  # type: ignore[arg-type]
        )  # fmt: skip
        self.agent = UserAgent(
            self, [Endpoint("udp", HOST, 5060), Endpoint("tcp", HOST, 5060)], token=self.token,
            choose=lambda low, high: low, software="Gateway", guard=self.guard,
        )  # fmt: skip
        self.invites: list[Request] = []
        self.registers: list[Request] = []
        self.defects: list[Exception] = []

    def token(self) -> str:
        number = next(self.numbers)
        return f"{number:05x}{number:011x}"

    def receive(self, data: bytes, flow: Flow = STRANGER) -> list[Response | Request]:
        self.agent.receive(data, flow, self.now)
        sent = self.agent.take()
        for to, out in sent:
            assert (to.remote_host, to.transport) == (flow.remote_host, flow.transport)
            if flow == STRANGER and flow.transport == "udp" and not self.guard.known(flow, self.now):
                assert len(out) <= len(data)
        return [parse(out) for _, out in sent]

    def verify(self, request: Request, flow: Flow) -> bool:
        found = self.digest.credentials(request.all(METHODS[request.method][0]))
        stored = Ha1Pair(ha1("alice", REALM, "secret"), ha1("alice", REALM, "secret", SHA256))
        if found is None:
            return False
        verdict = self.digest.verify(found, request.method, request.uri, stored, self.now, flow.remote_host)
        if verdict is Verdict.OK:
            self.guard.authenticated(flow, self.now)
        elif verdict is Verdict.FAILED and self.digest.recognises(found, self.now, flow.remote_host):
            self.guard.failed(flow, self.now)
        return verdict is Verdict.OK

    def on_invite(self, session: InviteSession, request: Request, now: float) -> None:
        self.invites.append(request)
        flow = session.flow
        if self.guard.who(flow) is None and not self.verify(request, flow):
            raise SipError(407)
        session.answer(now, b"")

    def on_register(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        self.registers.append(request)
        if not self.verify(request, transaction.flow):
            raise SipError(401)
        self.agent.respond(transaction, 200, now)

    def on_malformed(self, flow: Flow, error: SipError) -> None: ...

    def on_exception(self, error: Exception) -> None:
        self.defects.append(error)

    def attempt(self, password: str, flow: Flow = STRANGER, method: str = "REGISTER") -> list[int]:
        """Ask, and answer the challenge; the statuses that came."""
        (challenge,) = self.receive(request(method, next(self.numbers)), flow)
        answer = answered(challenge, password, method)
        return [r.status for r in self.receive(request(method, next(self.numbers), *answer), flow)]


def request(
    method: str, number: int = 1, *extra: str, uri: str = f"sip:{REALM}", to: str = "alice", tag: str = "",
    headers: tuple[str, ...] = PHONE, agent: str = "",
) -> bytes:  # fmt: skip
    """A request of alice as a phone sends it."""
    return sip(
        f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK{number};rport",
        "Max-Forwards: 70", f"From: <sip:alice@{REALM}>;tag=f{number}",
        f"To: <sip:{to}@{REALM}>" + (f";tag={tag}" if tag else ""), f"Call-ID: call-{number}@198.51.100.7",
        f"CSeq: {number} {method}", "Contact: <sip:alice@198.51.100.7:5080>", *headers, *extra,
        *([f"User-Agent: {agent}"] if agent else []), body=SDP if method == "INVITE" else b"",
    )  # fmt: skip


def answered(challenge: Response | Request, password: str, method: str, nc: int = 1) -> tuple[str]:
    answer, name = METHODS[method]
    value = authorization_for(
        challenge.all(name), method, f"sip:{REALM}", "alice", password, cnonce="c0ffee", nc=nc
    )  # fmt: skip
    assert value is not None
    return (f"{answer.title()}: {value}",)


# -- what a stranger gets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
@pytest.mark.parametrize("algorithms", [(MD5,), (SHA256, MD5), (SHA256,)])
def test_a_phone_gets_in_by_answering_the_challenge(method: str, algorithms: tuple[str, ...]) -> None:
    world = World(algorithms=algorithms)
    (challenge,) = world.receive(request(method))
    assert isinstance(challenge, Response) and challenge.status == (401 if method == "REGISTER" else 407)
    assert len(world.agent.layer) == 0 and world.agent.next_deadline() is None, "nothing is kept for it"
    assert not world.invites and not world.registers
    again = world.receive(request(method, 2, *answered(challenge, "secret", method)))
    assert [r.status for r in again if r.status != 100] == [200]
    assert world.guard.known(STRANGER, world.now) and world.told.drops == []


def test_a_repeated_request_gets_the_same_tag() -> None:
    """RFC 3261 8.2.7."""
    world = World()
    tags = {world.receive(request("REGISTER"))[0].to.tag for _ in range(3)}
    assert len(tags) == 1 and tags != {None}
    assert world.receive(request("REGISTER", 2))[0].to.tag not in tags


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (request("OPTIONS"), "stranger"),
        (request("SUBSCRIBE"), "stranger"),
        (request("MESSAGE"), "stranger"),
        (request("FROBNICATE"), "stranger"),
        (request("BYE", tag="guess"), "stranger"),
        (request("CANCEL"), "stranger"),
        (request("REGISTER", agent="friendly-scanner", headers=()), "scanner"),
        (request("INVITE", agent="sipcli/v1.8", headers=()), "scanner"),
        (request("OPTIONS", agent="SIPVicious/0.3", headers=()), "scanner"),
        (request("REGISTER", headers=()).replace(b"<sip:alice@gw.example>;", b'"sipvicious" <sip:100@1.1.1.1>;'),
         "scanner"),
    ],
)  # fmt: skip
def test_everything_else_is_not_answered(data: bytes, reason: str) -> None:
    world = World()
    assert world.receive(data) == []
    assert world.told.drops == [reason]
    assert len(world.agent.layer) == 0 and world.defects == []


def test_an_ack_for_what_was_forgotten_is_nothing() -> None:
    world = World()
    (challenge,) = world.receive(request("INVITE"))
    assert world.receive(request("ACK", tag=challenge.to.tag or "")) == []
    assert world.receive(request("ACK")) == []
    assert world.told.drops == []


def test_a_scanner_in_the_hands_of_a_peer_is_a_tool() -> None:
    world = World()
    assert [r.status for r in world.receive(request("OPTIONS", agent="sipsak 0.9", headers=()), TRUNK)] == [200]


@pytest.mark.parametrize("flow", [STRANGER, STRANGER._replace(transport="tcp")])
def test_rubbish_of_strangers_is_not_answered(flow: Flow) -> None:
    world = World(requests=1e9, requests_at_once=1e9, challenges=1e9, challenges_at_once=1e9)
    for data in itertools.islice(mutations(31, 3000), 3000):
        for response in world.receive(data, flow):
            assert isinstance(response, Response) and response.status in (401, 407)
    for data in MESSAGES.values():
        world.receive(data, flow)
    assert len(world.agent.layer) == 0 and world.defects == []


# -- amplification -----------------------------------------------------------------------------------------------------


def test_nothing_larger_than_the_request_goes_to_an_unproven_address() -> None:
    """Also where the request is as short as it can be; then there is no answer at all."""
    short = (
        b"REGISTER sip:h SIP/2.0\r\nv:SIP/2.0/UDP h;branch=z9hG4bK1\r\nf:sip:a@h;tag=1\r\nt:sip:a@h\r\ni:1\r\n"
        b"CSeq:1 REGISTER\r\n\r\n"
    )
    world = World()
    assert world.receive(short) == [] and world.told.drops == ["amplification"]
    for padding in range(0, 400, 4):
        data = short.replace(b"i:1\r\n", b"i:1\r\ns:" + b"x" * padding + b"\r\n")
        world.now += 1
        world.receive(data)  # which asserts the size
    assert world.told.drops.count("amplification") < 60, "a phone's own headers are room enough"


@pytest.mark.parametrize("rport", ["", ";rport"])
def test_phones_of_few_words_find_room(rport: str) -> None:
    """As SIPp registers, and the gateway's own phone: no User-Agent, no Allow."""
    world = World()
    data = sip(
        "REGISTER sip:198.51.100.1 SIP/2.0", f"Via: SIP/2.0/UDP 10.0.0.5:5080;branch=z9hG4bK-12345-1-0{rport}",
        "From: <sip:alice@198.51.100.1>;tag=12345SIPpTag001", "To: <sip:alice@198.51.100.1>",
        "Call-ID: 1-12345@10.0.0.5", "CSeq: 1 REGISTER", "Contact: sip:alice@10.0.0.5:5080", "Max-Forwards: 70",
        *(["Expires: 60"] if not rport else ["Expires: 60", "User-Agent: P"]),
    )  # fmt: skip
    (challenge,) = world.receive(data)
    assert isinstance(challenge, Response) and challenge.status == 401


def test_over_a_connection_the_size_is_free() -> None:
    short = (
        b"REGISTER sip:h SIP/2.0\r\nv:SIP/2.0/TCP h;branch=z9hG4bK1\r\nf:sip:a@h;tag=1\r\nt:sip:a@h\r\ni:1\r\n"
        b"CSeq:1 REGISTER\r\nl:0\r\n\r\n"
    )
    assert [r.status for r in World().receive(short, STRANGER._replace(transport="tcp"))] == [401]


def test_an_invite_is_answered_once_not_until_an_ack_comes() -> None:
    world = World()
    assert len(world.receive(request("INVITE"))) == 1
    world.now += 60
    world.agent.advance(world.now)
    assert world.agent.take() == []


def test_several_algorithms_are_offered_where_they_fit() -> None:
    world = World(algorithms=(SHA256, MD5))
    roomy = request("REGISTER", 1, "X-Room: " + "x" * 300)
    assert len(world.receive(roomy)[0].all("www-authenticate")) == 2
    tight = request("REGISTER", 2, headers=("Expires: 3600", "User-Agent: A phone of some age 1.0.3"))
    (challenge,) = world.receive(tight)
    (value,) = challenge.all("www-authenticate")
    assert "SHA-256" not in value


# -- nonces ------------------------------------------------------------------------------------------------------------


def test_a_nonce_is_good_for_one_address_alone() -> None:
    """A nonce fetched at one's own address opens nothing in another's name."""
    world = World()
    mine = STRANGER._replace(remote_host="198.51.100.99")
    (challenge,) = world.receive(request("REGISTER"), mine)
    (other,) = world.receive(request("REGISTER", 2, *answered(challenge, "secret", "REGISTER")))
    assert isinstance(other, Response) and other.status == 401
    assert "stale=true" in (other.get("www-authenticate") or "")
    assert not world.registers


def test_a_nonce_expires_and_is_not_counted_against_anybody() -> None:
    world = World()
    (challenge,) = world.receive(request("REGISTER"))
    world.now += 301
    (late,) = world.receive(request("REGISTER", 2, *answered(challenge, "secret", "REGISTER")))
    assert isinstance(late, Response) and "stale=true" in (late.get("www-authenticate") or "")
    assert world.told.failures == 0


def test_a_replay_is_refused() -> None:
    world = World()
    (challenge,) = world.receive(request("REGISTER"))
    good = answered(challenge, "secret", "REGISTER")
    assert [r.status for r in world.receive(request("REGISTER", 2, *good))] == [200]
    assert [r.status for r in world.receive(request("REGISTER", 3, *good))] == [401]
    assert [r.status for r in world.receive(request("REGISTER", 4, *answered(challenge, "secret", "REGISTER", 2)))] == [
        200
    ]


# -- bans --------------------------------------------------------------------------------------------------------------


def test_who_guesses_passwords_is_banned_for_a_while() -> None:
    world = World(ban_failures=5, ban_seconds=600)
    for _ in range(5):
        assert world.attempt("guess") == [401]
    assert world.told.bans == [STRANGER.remote_host] and world.told.failures == 5
    assert world.receive(request("REGISTER", 99)) == [] and world.told.drops[-1] == "banned"
    assert not world.guard.welcome(STRANGER._replace(transport="tcp"), world.now), "nor may it connect"
    world.now += 601
    assert world.attempt("secret") == [200]


def test_wrong_answers_to_nonces_that_nobody_was_sent_ban_nobody() -> None:
    """What somebody can send in another's name: no nonce of his, so no strike."""
    world = World(ban_failures=2, challenges=1e9, challenges_at_once=1e9)
    elsewhere = STRANGER._replace(remote_host="198.51.100.99")
    for number in range(10, 60):
        (own,) = world.receive(request("REGISTER", number), elsewhere)
        for nonce in (own, forged()):
            world.receive(request("REGISTER", number, *answered(nonce, "guess", "REGISTER")))
    assert world.told.bans == [] and world.told.failures == 0
    assert world.attempt("secret") == [200]


def forged() -> Response:
    value = f'Digest realm="{REALM}",nonce="lfls.00000.{"A" * 12}",qop="auth"'
    return Response(401, "", [("www-authenticate", value)])


def test_a_peer_is_never_banned() -> None:
    world = World(ban_failures=1)
    for _ in range(20):
        world.guard.failed(TRUNK, world.now)
    assert world.told.bans == [] and world.guard.admits(TRUNK, world.now)


def test_one_bad_phone_does_not_ban_the_office() -> None:
    world = World(ban_failures=3)
    good, bad, new = (STRANGER._replace(remote_port=port) for port in (5080, 6000, 6001))
    assert world.attempt("secret", good) == [200]
    for _ in range(3):
        assert world.attempt("guess", bad) == [401]
    assert world.told.bans == ["198.51.100.7 6000"]
    assert world.receive(request("REGISTER", 500), bad) == []
    assert world.attempt("secret", new) == [200]
    assert [r.status for r in world.receive(request("OPTIONS", 501), good)] == [200]


def test_but_an_office_that_guesses_from_ever_new_ports_is_closed_to_strangers() -> None:
    world = World(ban_failures=3, challenges=1e9, challenges_at_once=1e9)
    good = STRANGER
    assert world.attempt("secret", good) == [200]
    tried = 0
    for port in range(10000, 10100):
        flow = STRANGER._replace(remote_port=port)
        if not world.receive(request("REGISTER", port), flow):
            break
        tried += 1
        world.attempt("guess", flow)
    assert tried <= 25
    assert [r.status for r in world.receive(request("OPTIONS", 501), good)] == [200], "who is in stays in"


def test_a_registered_phone_that_guesses_is_banned_too() -> None:
    world = World(ban_failures=3)
    assert world.attempt("secret") == [200]
    (challenge,) = world.receive(request("REGISTER", 7), STRANGER._replace(remote_port=9999))
    for nc in range(2, 5):
        world.receive(request("REGISTER", 50 + nc, *answered(challenge, "guess", "REGISTER", nc)))
    assert world.told.bans == ["198.51.100.7 5080"]
    assert world.receive(request("OPTIONS", 60)) == []


# -- rates -------------------------------------------------------------------------------------------------------------


def test_a_stranger_that_only_probes_falls_silent() -> None:
    world = World(challenges=1, challenges_at_once=10)
    answers = [len(world.receive(request("REGISTER", number, to=f"u{number}"))) for number in range(100)]
    assert sum(answers) == 10 and world.told.drops.count("probing") == 90
    world.now += 5
    assert len(world.receive(request("REGISTER", 200))) == 1


def test_a_flood_of_one_address_is_dropped_unread_and_leaves_others_alone() -> None:
    world = World(requests=10, requests_at_once=20)
    for number in range(500):
        world.receive(request("OPTIONS", number))
    assert world.told.drops.count("rate") == 480
    assert world.attempt("secret", STRANGER._replace(remote_host="198.51.100.8")) == [200]


def test_over_a_connection_a_flood_ends_it() -> None:
    world = World(requests=10, requests_at_once=20)
    flow = STRANGER._replace(transport="tcp")
    taken = [world.agent.receive(request("OPTIONS", n), flow, world.now) for n in range(30)]
    assert taken == [True] * 20 + [False] * 10


def test_who_proved_itself_is_not_limited() -> None:
    world = World(requests=1, requests_at_once=10)
    assert world.attempt("secret") == [200]
    for number in range(1000, 1500):
        assert len(world.receive(request("OPTIONS", number))) == 1


def test_a_peer_has_its_own_rate_of_calls_and_emergencies_pass() -> None:
    world = World(known={TRUNK.remote_host: Known("trunk a", 5.0)}, emergency=frozenset({"911"}))
    statuses = [
        next(r.status for r in world.receive(request("INVITE", n, uri="sip:1@gw"), TRUNK) if r.status != 100)
        for n in range(20)
    ]
    assert statuses == [200] * 5 + [503] * 15
    (refused,) = world.receive(request("INVITE", 100), TRUNK)
    assert refused.get("retry-after") == "2" and world.told.refusals == ["peer rate"] * 16
    assert 200 in [r.status for r in world.receive(request("INVITE", 101, uri="sip:911@gw"), TRUNK)]
    assert 200 in [r.status for r in world.receive(request("INVITE", 102, uri="tel:+9-1-1"), TRUNK)]


def test_an_invite_that_was_taken_is_never_refused_when_it_is_repeated() -> None:
    world = World(known={TRUNK.remote_host: Known("trunk a", 1.0)})
    assert 200 in [r.status for r in world.receive(request("INVITE", 1), TRUNK)]
    for _ in range(5):
        assert [r.status for r in world.receive(request("INVITE", 1), TRUNK)] == []
    assert [r.status for r in world.receive(request("INVITE", 2), TRUNK)] == [503]


# -- overload ----------------------------------------------------------------------------------------------------------


def test_under_overload_new_calls_are_refused_and_the_rest_goes_on() -> None:
    world = World(emergency=frozenset({"112"}))
    (ok,) = [r for r in world.receive(request("INVITE", 1), TRUNK) if r.status == 200]
    world.guard.overload.share = 1.0
    (refused,) = world.receive(request("INVITE", 2), TRUNK)
    assert isinstance(refused, Response) and refused.status == 503 and int(refused.get("retry-after") or 0) >= 2
    assert world.told.refusals == ["overload"] and len(world.invites) == 1
    world.receive(request("ACK", 1, tag=ok.to.tag or "").replace(b"z9hG4bK1;", b"z9hG4bKa;"), TRUNK)
    bye = request("BYE", 1, tag=ok.to.tag or "").replace(b"CSeq: 1", b"CSeq: 2").replace(b"z9hG4bK1;", b"z9hG4bKb;")
    assert [r.status for r in world.receive(bye, TRUNK)] == [200]
    assert [r.status for r in world.receive(request("OPTIONS", 4), TRUNK)] == [200]
    assert 200 in [r.status for r in world.receive(request("INVITE", 5, uri="sip:112@gw"), TRUNK)]


def test_an_emergency_of_a_stranger_still_takes_a_password() -> None:
    world = World(emergency=frozenset({"112"}))
    world.guard.overload.share = 1.0
    uri = "sip:112@gw"
    assert [r.status for r in world.receive(request("INVITE", 1, uri=uri))] == [407]
    assert not world.invites


# -- those who are not configured, but part of a call ------------------------------------------------------------------


def test_who_knows_the_tags_of_a_dialog_may_speak_in_it_from_wherever_he_is() -> None:
    """A carrier's BYE from another of its hosts."""
    world = World()
    (ok,) = [r for r in world.receive(request("INVITE", 1), TRUNK) if r.status == 200]
    tag = ok.to.tag or ""
    world.receive(request("ACK", 1, tag=tag).replace(b"z9hG4bK1;", b"z9hG4bKa;"), TRUNK)
    other = STRANGER._replace(remote_host="203.0.113.77")
    bye = request("BYE", 1, tag=tag).replace(b"CSeq: 1", b"CSeq: 2").replace(b"z9hG4bK1;", b"z9hG4bKb;")
    assert world.receive(bye.replace(tag.encode(), b"0" * 16), other) == [], "not with a tag that he guessed"
    assert [r.status for r in world.receive(bye, other)] == [200]
    assert world.guard.known(other, world.now)


def test_who_knows_our_branch_has_proved_himself() -> None:
    world = World()
    session = world.agent.invite(None, STRANGER, "tag")  # type: ignore[arg-type]
    headers = [("from", "<sip:a@h>;tag=tag"), ("to", "<sip:b@h>"), ("call-id", "c"), ("cseq", "1 INVITE")]
    session.start(Request("INVITE", "sip:b@198.51.100.7", headers), world.now)
    ((_, sent),) = world.agent.take()
    invite = parse(sent)
    assert isinstance(invite, Request)
    ringing = bytes(invite.response(180, to_tag="t"))
    world.receive(ringing.replace(b"branch=z9hG4bK", b"branch=z9hG4bKx"))
    assert not world.guard.known(STRANGER, world.now)
    world.receive(ringing)
    assert world.guard.known(STRANGER, world.now)
