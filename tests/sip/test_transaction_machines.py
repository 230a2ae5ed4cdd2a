"""The four transactions against models of their own, written from RFC 3261 figures 5 to 8 and RFC 6026 §7.

A model is told the same events at the same times and says what goes out, what the transaction user hears, and whether
the transaction is still there. It shares nothing with the tables that it judges.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.sip.message import Request
from gateway.sip.transaction import ServerTransaction
from tests.support.sip_wire import TCP, UDP, Layer, answer, request

T1, T2, T4 = 0.5, 4.0, 5.0
FINALS = st.sampled_from([300, 302, 401, 404, 486, 487, 503, 600, 699])
PROVISIONALS = st.sampled_from([100, 180, 183, 199])
SUCCESSES = st.sampled_from([200, 202, 299])
STEPS = st.sampled_from([0.01, 0.01, 0.1, 0.3, 0.5, 0.5, 1.0, 2.0, 4.0, 5.0, 32.0])


class Model:
    """What the figures have in common: a state, timers, and what came out of it so far."""

    def __init__(self, reliable: bool) -> None:
        self.reliable = reliable
        self.now = 0.0
        self.state = ""
        self.timers: dict[str, float] = {}
        self.sent: list[tuple[float, str]] = []
        self.told: list[str] = []

    @property
    def over(self) -> bool:
        return self.state == "Terminated"

    def out(self, what: str) -> None:
        self.sent.append((round(self.now, 3), what))

    def set(self, name: str, seconds: float) -> None:
        self.timers[name] = self.now + seconds

    def enter(self, state: str) -> None:
        self.state = state
        if self.over:
            self.timers.clear()

    def linger(self, name: str, seconds: float) -> None:
        """A timer that is zero over reliable transports: the state is left at once."""
        if self.reliable:
            self.enter("Terminated")
        else:
            self.set(name, seconds)

    def fire(self, name: str) -> None:
        raise NotImplementedError

    def until(self, time: float) -> None:
        while self.timers:
            name = min(self.timers, key=lambda n: self.timers[n])
            if self.timers[name] > time:
                break
            self.now = self.timers.pop(name)
            self.fire(name)
        self.now = time


class InviteClient(Model):
    """Figure 5, with Accepted of RFC 6026."""

    def start(self) -> None:
        self.state, self.a = "Calling", T1
        self.out("INVITE")
        if not self.reliable:
            self.set("A", self.a)
        self.set("B", 64 * T1)

    def response(self, status: int) -> None:
        if self.state == "Completed" and status >= 300:
            self.out("ACK")
        elif self.state == "Accepted" and 200 <= status < 300:
            self.told.append(str(status))
        elif self.state in ("Calling", "Proceeding"):
            self.timers.clear()
            if status < 200:
                self.enter("Proceeding")
            elif status < 300:
                self.enter("Accepted")
                self.set("M", 64 * T1)
            else:
                self.out("ACK")
                self.enter("Completed")
                self.linger("D", 32.0)
            self.told.append(str(status))

    def error(self) -> None:
        if self.state in ("Calling", "Completed"):
            self.told.append("failure 503")
            self.enter("Terminated")

    def fire(self, name: str) -> None:
        if name == "A":
            self.out("INVITE")
            self.a *= 2
            self.set("A", self.a)
        else:
            if name == "B":
                self.told.append("failure 408")
            self.enter("Terminated")


class NonInviteClient(Model):
    """Figure 6."""

    def start(self) -> None:
        self.state, self.e = "Trying", T1
        self.out("OPTIONS")
        if not self.reliable:
            self.set("E", self.e)
        self.set("F", 64 * T1)

    def response(self, status: int) -> None:
        if self.state not in ("Trying", "Proceeding"):
            return
        self.told.append(str(status))
        if status < 200:
            self.enter("Proceeding")
            return
        self.timers.clear()
        self.enter("Completed")
        self.linger("K", T4)

    def error(self) -> None:
        if self.state in ("Trying", "Proceeding"):
            self.told.append("failure 503")
            self.enter("Terminated")

    def fire(self, name: str) -> None:
        if name == "E":
            self.out("OPTIONS")
            self.e = T2 if self.state == "Proceeding" else min(2 * self.e, T2)
            self.set("E", self.e)
        else:
            if name == "F":
                self.told.append("failure 408")
            self.enter("Terminated")


class InviteServer(Model):
    """Figure 7, with Accepted of RFC 6026."""

    def start(self) -> None:
        self.state, self.g, self.last = "Proceeding", T1, ""

    def request(self) -> None:
        if self.state in ("Proceeding", "Completed") and self.last:
            self.out(self.last)

    def respond(self, status: int) -> bool:
        """Whether the transaction takes it."""
        if self.state == "Accepted" and 200 <= status < 300:
            self.out(str(status))
            return True
        if self.state != "Proceeding":
            return False
        self.last = str(status)
        self.out(self.last)
        if status >= 300:
            self.enter("Completed")
            if not self.reliable:
                self.set("G", self.g)
            self.set("H", 64 * T1)
        elif status >= 200:
            self.enter("Accepted")
            self.set("L", 64 * T1)
        return True

    def ack(self) -> None:
        if self.state == "Completed":
            self.timers.clear()
            self.enter("Confirmed")
            self.linger("I", T4)
        elif self.state == "Accepted":
            self.told.append("ack")

    def fire(self, name: str) -> None:
        if name == "G":
            self.out(self.last)
            self.g = min(2 * self.g, T2)
            self.set("G", self.g)
        else:
            self.enter("Terminated")


class NonInviteServer(Model):
    """Figure 8."""

    def start(self) -> None:
        self.state, self.last = "Trying", ""

    def request(self) -> None:
        if self.state in ("Proceeding", "Completed"):
            self.out(self.last)

    def respond(self, status: int) -> bool:
        if self.state not in ("Trying", "Proceeding"):
            return False
        self.last = str(status)
        self.out(self.last)
        if status < 200:
            self.enter("Proceeding")
        else:
            self.enter("Completed")
            self.linger("J", 64 * T1)
        return True

    def ack(self) -> None: ...

    def fire(self, name: str) -> None:
        self.enter("Terminated")


def alive(judged: Any) -> bool:
    """Most of the steps are to be taken while there is a transaction."""
    return judged.model is not None and not judged.model.over


class Judged(RuleBasedStateMachine):
    """A real transaction beside its model."""

    kind: type[Any]
    method = "OPTIONS"

    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer(T1)
        self.flow = UDP
        self.model: Any = None

    def begin(self, reliable: bool) -> None:
        self.flow = TCP if reliable else UDP
        self.model = self.kind(reliable)
        self.model.start()

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        time = self.layer.now + seconds
        self.layer.until(time)
        self.model.until(time)

    @invariant()
    def both_agree(self) -> None:
        if self.model is None:
            return
        sent = [(round(one.at, 3), one.what) for one in self.layer.sent]
        assert sent == self.model.sent
        assert self.told() == self.model.told
        assert len(self.layer.layer) == (0 if self.model.over else 1)
        deadline = self.layer.timers.next_deadline()
        assert (deadline is None) == (not self.model.timers)
        if deadline is not None:
            assert deadline == pytest.approx(min(self.model.timers.values()))

    def told(self) -> list[str]:
        raise NotImplementedError


class ClientJudged(Judged):
    @initialize(reliable=st.booleans())
    def send(self, reliable: bool) -> None:
        self.begin(reliable)
        headers = [("from", "<sip:us@h>;tag=l"), ("to", "<sip:b@h>"), ("call-id", "c"), ("cseq", f"1 {self.method}")]
        self.heard: list[str] = []
        layer = self.layer
        layer.on_response = lambda t, response, now: self.heard.append(str(response.status))  # type: ignore
        layer.on_failure = lambda t, status, now: self.heard.append(f"failure {status}")  # type: ignore
        layer.layer.request(Request(self.method, "sip:b@h", headers), self.flow, "192.0.2.1:5060", "z9hG4bKx", 0.0)

    def told(self) -> list[str]:
        return self.heard

    def respond(self, status: int) -> None:
        self.layer.receive(answer(self.layer.sent[0].data, status), self.flow)
        self.model.response(status)

    @precondition(alive)
    @rule(status=PROVISIONALS)
    def provisional(self, status: int) -> None:
        self.respond(status)

    @precondition(alive)
    @rule(status=SUCCESSES)
    def success(self, status: int) -> None:
        self.respond(status)

    @precondition(alive)
    @rule(status=FINALS)
    def failure(self, status: int) -> None:
        self.respond(status)

    @rule(status=st.one_of(PROVISIONALS, SUCCESSES, FINALS), what=st.sampled_from(["branch", "method"]))
    def somebody_elses_response(self, status: int, what: str) -> None:
        data = answer(self.layer.sent[0].data, status)
        old, new = (b"z9hG4bKx", b"z9hG4bKy") if what == "branch" else (f"1 {self.method}".encode(), b"1 BYE")
        self.layer.receive(data.replace(old, new), self.flow)

    @precondition(alive)
    @rule()
    def transport_error(self) -> None:
        self.layer.layer.transport_failed(self.flow, self.layer.now)
        self.model.error()


class InviteClientJudged(ClientJudged):
    kind, method = InviteClient, "INVITE"


class NonInviteClientJudged(ClientJudged):
    kind, method = NonInviteClient, "OPTIONS"


class ServerJudged(Judged):
    @initialize(reliable=st.booleans())
    def arrive(self, reliable: bool) -> None:
        self.begin(reliable)
        self.layer.receive(self.data(), self.flow)
        assert len(self.layer.requests) == 1
        self.transaction: ServerTransaction = self.layer.requests[0]

    def data(self, method: str = "") -> bytes:
        return request(method or self.method, transport="TCP" if self.model.reliable else "UDP")

    def told(self) -> list[str]:
        assert len(self.layer.requests) == 1 or self.model.over, "a repeated request is not told again"
        return ["ack"] * len(self.layer.acks)

    @precondition(alive)
    @rule()
    def repeated(self) -> None:
        self.layer.receive(self.data(), self.flow)
        self.model.request()

    @rule(status=st.one_of(PROVISIONALS, SUCCESSES, FINALS))
    def respond(self, status: int) -> None:
        taken = self.transaction.respond(self.transaction.request.response(status, to_tag="t"), self.layer.now)
        assert taken == self.model.respond(status)


class InviteServerJudged(ServerJudged):
    kind, method = InviteServer, "INVITE"

    @precondition(alive)
    @rule()
    def ack(self) -> None:
        self.layer.receive(self.data("ACK"), self.flow)
        self.model.ack()


class NonInviteServerJudged(ServerJudged):
    kind, method = NonInviteServer, "OPTIONS"


TestInviteClient = InviteClientJudged.TestCase
TestNonInviteClient = NonInviteClientJudged.TestCase
TestInviteServer = InviteServerJudged.TestCase
TestNonInviteServer = NonInviteServerJudged.TestCase
TestInviteClient.settings = TestNonInviteClient.settings = settings(
    max_examples=150, stateful_step_count=20, deadline=None
)
TestInviteServer.settings = TestNonInviteServer.settings = TestInviteClient.settings
