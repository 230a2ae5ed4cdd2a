"""Dialogs and INVITE sessions against models of their own, written from RFC 3261 §9, §12 to §15 and RFC 6026.

One machine is called, the other calls (and is forked); each is told the same as its model, which says what goes out.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.sip.invite import InviteSession, ServerExchange
from gateway.sip.message import Request
from tests.support.sip_wire import Wire, answer, request

CONTACT = ("Contact: <sip:bob@192.0.2.10:5070>",)


class Base(RuleBasedStateMachine):
    """A wire, and the numbers of the far end's requests."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.branches = 0

    def branch(self) -> str:
        self.branches += 1
        return f"z9hG4bKm{self.branches}"

    @invariant()
    def nothing_escaped(self) -> None:
        assert self.wire.defects == []


class Called(Base):
    """The UAS side. ``state`` is that of the session as RFC 3261 names it: early, answered (no ACK yet), confirmed,
    terminated. ``theirs`` is the far end's last CSeq."""

    session: InviteSession

    @initialize()
    def invited(self) -> None:
        assert self.wire.receive(request("INVITE", cseq=10)) == ["100"]
        self.session = self.wire.sessions[0]
        self.tag = self.session.local_tag
        self.state, self.theirs = "early", 10
        self.offered: ServerExchange | None = None
        self.unacked = 0
        self.asking = ""
        self.bye_waits = False

    def theirs_in_dialog(self, method: str, cseq: int, tag: str = "") -> list[str]:
        return self.wire.receive(request(method, branch=self.branch(), cseq=cseq, to_tag=tag or self.tag))

    def over(self) -> None:
        self.state, self.offered, self.unacked = "terminated", None, 0

    # -- the initial INVITE ------------------------------------------------------------------------------------------

    @rule()
    def ring(self) -> None:
        self.session.provisional(180, self.wire.now)
        assert self.wire.act() == (["180"] if self.state == "early" else [])

    @precondition(lambda self: self.state == "early")
    @rule()
    def pick_up(self) -> None:
        self.session.answer(self.wire.now)
        assert self.wire.act() == ["200"]
        self.state = "answered"

    @precondition(lambda self: self.state != "early")
    @rule(status=st.sampled_from([200, 486]))
    def a_second_final_response_is_none(self, status: int) -> None:
        (self.session.answer if status == 200 else lambda now: self.session.reject(486, now))(self.wire.now)
        assert self.wire.act() == []

    @rule()
    def refuse(self) -> None:
        self.session.reject(486, self.wire.now)
        assert self.wire.act() == (["486"] if self.state == "early" else [])
        if self.state == "early":
            self.over()

    @rule()
    def they_repeat_the_invite(self) -> None:
        """The transaction answers, never the session (§17.2.1); after a 2xx it absorbs (RFC 6026 §7.1)."""
        repeated = self.wire.receive(request("INVITE", cseq=10))
        assert len(self.wire.sessions) == 1
        assert all(what in ("100", "180", "480", "486", "487") for what in repeated)
        if self.state in ("answered", "confirmed"):
            assert repeated == []

    @rule()
    def they_cancel(self) -> None:
        told = list(self.wire.told.events)
        sent = self.wire.receive(request("CANCEL", cseq=10))
        if self.state == "early":
            assert sent == ["200", "487"] and self.wire.told.events == [*told, "cancel"]
            self.over()
        else:
            assert sent in (["200"], ["481"]) and self.wire.told.events == told

    @precondition(lambda self: self.state in ("answered", "confirmed", "terminated"))
    @rule(right=st.booleans())
    def they_ack(self, right: bool) -> None:
        told = list(self.wire.told.events)
        sent = self.theirs_in_dialog("ACK", 10 if right else 9)
        if self.state == "answered" and right:
            self.state = "confirmed"
            if self.bye_waits:
                assert sent == ["BYE"]
                self.over()
            else:
                assert sent == [] and self.wire.told.events == [*told, "ack"]
        else:
            assert sent == [] and self.wire.told.events == told

    # -- within the dialog -------------------------------------------------------------------------------------------

    @rule(step=st.integers(-2, 3))
    def they_hang_up(self, step: int) -> None:
        told = list(self.wire.told.events)
        number = self.theirs + step
        sent = self.theirs_in_dialog("BYE", number)
        if self.state == "terminated":
            assert sent in (["481"], ["200"], ["500"]) and self.wire.told.events == told
            return
        if step <= 0:
            assert sent == ["500"] and self.wire.told.events == told  # §12.2.2
            return
        assert sent[0] == "200" and self.wire.told.events == [*told, "bye"]
        assert sent[1:] == (["487"] if self.state == "early" or self.offered else [])  # §15.1.2
        self.theirs = number
        self.over()

    @rule(step=st.integers(-1, 3), method=st.sampled_from(["INVITE", "UPDATE"]))
    def they_offer(self, step: int, method: str) -> None:
        told = list(self.wire.told.events)
        number = self.theirs + step
        sent = self.theirs_in_dialog(method, number)
        if self.state == "terminated":
            assert sent == ["481"]
        elif step <= 0:
            assert sent == ["500"]
        else:
            self.theirs = number
            if self.state == "early" or self.offered is not None:
                assert sent == ["500"]  # §14.2: one after the other
                assert self.wire.last("500").message.get("retry-after") is not None
            elif self.state == "answered" or self.unacked or self.asking:
                assert sent == ["491"]
            else:
                assert sent == [] and self.wire.told.events == [*told, f"offer {method}"]
                self.offered = self.wire.told.exchanges[-1]
                return
        assert self.wire.told.events == told

    @precondition(lambda self: self.offered is not None)
    @rule(status=st.sampled_from([200, 488]))
    def answer_the_offer(self, status: int) -> None:
        assert self.offered is not None
        self.offered.respond(status, self.wire.now)
        assert self.wire.act() == [str(status)]
        if status == 200 and self.offered.method == "INVITE":
            self.unacked = self.offered.request.cseq[0]
        self.offered = None

    @precondition(lambda self: self.unacked)
    @rule()
    def they_ack_the_offer(self) -> None:
        assert self.theirs_in_dialog("ACK", self.unacked) == []
        assert self.wire.told.events[-1] == "ack of offer"
        self.unacked = 0

    @rule(method=st.sampled_from(["BYE", "INVITE", "INFO"]))
    def a_dialog_that_there_is_not(self, method: str) -> None:
        assert self.theirs_in_dialog(method, self.theirs + 1, tag="guess") == ["481"]
        assert self.theirs_in_dialog("ACK", self.theirs + 1, tag="guess") == []

    @precondition(lambda self: self.state == "confirmed" and not self.session.busy)
    @rule()
    def offer(self) -> None:
        self.session.send_offer("INVITE", self.wire.now, b"v=0\r\n")
        assert self.wire.act() == ["INVITE"]
        self.asking = "INVITE"

    @precondition(lambda self: self.asking and self.state == "confirmed")
    @rule(status=st.sampled_from([180, 200, 488, 491]))
    def they_answer_the_offer(self, status: int) -> None:
        sent = self.wire.receive(answer(self.wire.last("INVITE").data, status, tag="a"))
        assert sent == ([] if status == 180 else ["ACK"])
        if status >= 200:
            assert self.wire.told.events[-1] == f"result {status}"
            self.asking = ""

    @rule()
    def hang_up(self) -> None:
        self.session.bye(self.wire.now)
        sent = self.wire.act()
        if self.state == "early":
            assert sent == ["480"]
            self.over()
        elif self.state == "answered":
            assert sent == []  # §15: not before the ACK has come
            self.bye_waits = True
        elif self.state == "confirmed":
            assert sent == ["BYE"]
            self.over()
        else:
            assert sent == []

    @invariant()
    def the_session_says_so(self) -> None:
        if hasattr(self, "state"):
            names = {"early": "PENDING", "answered": "ANSWERED", "confirmed": "CONFIRMED", "terminated": "TERMINATED"}
            assert self.session.state.name == names[self.state]


class Calling(Base):
    """The UAC side, forked: answers with different tags. ``state``: calling (nothing heard), proceeding, confirmed,
    terminated."""

    session: InviteSession

    @initialize()
    def invite(self) -> None:
        self.session = self.wire.invite()
        self.state, self.cancelled, self.cancel_sent = "calling", False, False
        self.acked: set[str] = set()
        self.ours = ""

    def respond(self, status: int, tag: str) -> list[str]:
        return self.wire.receive(answer(self.wire.sent[0].data, status, tag=tag, extra=CONTACT if status < 300 else ()))

    @property
    def open(self) -> bool:
        return self.state in ("calling", "proceeding")

    def cancel_goes_out(self) -> list[str]:
        """§9.1: once, and not before a provisional response has come."""
        if self.cancelled and not self.cancel_sent:
            self.cancel_sent = True
            return ["CANCEL"]
        return []

    @rule(status=st.sampled_from([100, 180, 183]), tag=st.sampled_from(["x", "y", "z"]))
    def provisional(self, status: int, tag: str) -> None:
        told = list(self.wire.told.events)
        sent = self.respond(status, tag)
        if not self.open:
            assert sent == [] and self.wire.told.events == told
            return
        self.state = "proceeding"
        assert sent == self.cancel_goes_out()
        heard = [] if status == 100 or self.cancelled else [f"provisional {status}"]
        assert self.wire.told.events == told + heard

    @rule(tag=st.sampled_from(["x", "y", "z"]))
    def success(self, tag: str) -> None:
        """§13.2.2.4: every 2xx is ACKed, again when it is repeated; one that nobody wants is hung up."""
        told, refused = list(self.wire.told.events), self.refused
        sent = self.respond(200, tag)
        if refused:
            assert sent == [] and self.wire.told.events == told  # its transaction has had its final response
        elif tag in self.acked:
            assert sent == ["ACK"] and self.wire.told.events == told
        elif self.open and not self.cancelled:
            assert sent == ["ACK"] and self.wire.told.events == [*told, "answer"]
            self.state, self.ours = "confirmed", tag
            self.acked.add(tag)
        else:
            assert sent == ["ACK", "BYE"]
            bye = self.wire.last("BYE").message
            assert bye.to.tag == tag
            self.acked.add(tag)
            if self.open:
                assert self.wire.told.events == [*told, "reject 487"]
                self.state = "terminated"

    @property
    def refused(self) -> bool:
        return any(event.startswith("reject") for event in self.wire.told.events) and not self.acked

    @rule(status=st.sampled_from([302, 404, 486, 503, 603]), tag=st.sampled_from(["x", "y"]))
    def failure(self, status: int, tag: str) -> None:
        told, refused = list(self.wire.told.events), self.refused
        sent = self.respond(status, tag)
        if self.open:
            assert sent == ["ACK"] and self.wire.told.events == [*told, f"reject {status}"]
            self.state = "terminated"
        else:
            assert sent == (["ACK"] if refused else []) and self.wire.told.events == told

    @rule()
    def cancel(self) -> None:
        if not self.open:
            return
        self.session.cancel(self.wire.now)
        self.cancelled = True
        assert self.wire.act() == (self.cancel_goes_out() if self.state == "proceeding" else [])

    @rule()
    def hang_up(self) -> None:
        before = self.state
        self.session.bye(self.wire.now)
        sent = self.wire.act()
        if before == "confirmed":
            assert sent == ["BYE"] and self.wire.last("BYE").message.to.tag == self.ours
            self.state = "terminated"
        elif self.open:
            self.cancelled = True
            assert sent == (self.cancel_goes_out() if before == "proceeding" else [])
        else:
            assert sent == []

    @precondition(lambda self: self.state == "confirmed")
    @rule()
    def they_hang_up(self) -> None:
        told = list(self.wire.told.events)
        bye = request("BYE", branch=self.branch(), cseq=7, to_tag="local", call_id="ours")
        assert self.wire.receive(bye.replace(b";tag=a", f";tag={self.ours}".encode())) == ["200"]
        assert self.wire.told.events == [*told, "bye"]
        self.state = "terminated"

    @invariant()
    def all_acks_are_for_the_invite(self) -> None:
        for sent in self.wire.sent:
            message = sent.message
            if isinstance(message, Request) and message.method == "ACK":
                assert message.cseq == (1, "ACK")


TestCalled = Called.TestCase
TestCalling = Calling.TestCase
TestCalled.settings = TestCalling.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
