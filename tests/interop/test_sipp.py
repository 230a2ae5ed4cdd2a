"""SIPp as agent and as carrier, with a gateway in between."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import soundfile

from config.settings import Trunk
from gateway.app import Gateway
from gateway.store.history import CallFilter
from scripts.audit_recordings import audit
from scripts.demo import tone_level
from tests.support.rig import settings_for, start_gateway
from tests.support.sipp import REMEMBER, Counts, Scenario, Sipp, free_port, sdp, start_sipp, tone_file

pytestmark = pytest.mark.interop
AGENT_HZ, PROSPECT_HZ = 440, 1000


@dataclass
class Bench:
    """A gateway between SIPps."""

    directory: Path
    gateway: Gateway
    callee_port: int
    running: list[Sipp] = field(default_factory=list)

    def address(self, transport: str = "udp", host: str = "127.0.0.1") -> str:
        host = f"[{host}]" if ":" in host else host
        for text in self.gateway.addresses:
            where, _, parameters = text.removeprefix("sip:").partition(";")
            if parameters == f"transport={transport}" and where.rpartition(":")[0] == host:
                return where
        raise LookupError(self.gateway.addresses)

    async def run(self, caller: Scenario, callee: Scenario, **options: Any) -> tuple[Counts, Counts]:
        """Both until their end. Options for one side alone have its name as a prefix."""
        own: dict[str, dict[str, Any]] = {"caller": {}, "callee": {}}
        for key, value in options.items():
            side, _, name = key.partition("_")
            for each in own if side not in own else (side,):
                own[each][key if side not in own else name] = value
        self.running.append(await start_sipp(callee, self.directory, port=self.callee_port, **own["callee"]))
        remote = own["caller"].pop("remote", None) or self.address()
        self.running.append(await start_sipp(caller, self.directory, remote=remote, **own["caller"]))
        far, near = self.running[-2:]
        return await near.counts(), await far.counts()

    async def settled(self, calls: int) -> list[dict[str, Any]]:
        """The manifests of all calls, when the gateway has none left."""
        async with asyncio.timeout(30):
            while self.gateway.calls.calls:
                await asyncio.sleep(0.02)
            while len(found := self.manifests()) < calls:
                await asyncio.sleep(0.05)
        return found

    def manifests(self) -> list[dict[str, Any]]:
        paths = (self.directory / "recordings").glob("*/*/*/*/*.json")
        return [json.loads(path.read_text()) for path in paths if not path.name.endswith(".part.json")]

    def tone(self, name: str) -> Path:
        return self.directory / name

    def check_audio(self) -> None:
        """Each side's tone on its own channel, and the other's 60 dB below it.

        SIPp sometimes sends a packet's length ahead of its own clock, which the timeline then follows; such a step in
        the tone spreads over the spectrum, so those recordings are looked at in pieces of a quarter second.
        """
        steady = 0
        for path in (self.directory / "recordings").glob("*/*/*/*/*.wav"):
            legs = json.loads(path.with_suffix(".json").read_text())["legs"]
            samples, rate = soundfile.read(path)
            for channel, leg, own, other in (
                (0, "agent", AGENT_HZ, PROSPECT_HZ),
                (1, "prospect", PROSPECT_HZ, AGENT_HZ),
            ):
                audio = samples[2000:-2000, channel]
                whole = legs[leg]["skew_samples"] == 0
                steady += whole
                pieces = [audio] if whole else [audio[at : at + 2000] for at in range(0, len(audio) - 2000, 2000)]
                apart = [tone_level(piece, own, rate) - tone_level(piece, other, rate) for piece in pieces]
                assert statistics.median(apart) > (60 if whole else 45), path
                assert max(tone_level(piece, own, rate) for piece in pieces) > -15, path
        assert steady > 200

    def clean(self) -> None:
        report = audit(self.directory / "recordings")
        assert report.findings == []

    async def close(self) -> None:
        for sipp in self.running:
            await sipp.stop()
        await self.gateway.stop(0)


Make = Callable[..., Coroutine[Any, Any, Bench]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Bench] = []

    async def start(
        policy: dict[str, Any] | None = None, *, trunk: dict[str, Any] | None = None, first: Trunk | None = None,
        **sections: Any,
    ) -> Bench:  # fmt: skip
        port = free_port()
        trunks = [Trunk(**{"name": "carrier", "host": "127.0.0.1", "port": port, **(trunk or {})})]
        settings = settings_for(tmp_path, [*([first] if first else []), *trunks], **sections)
        made.append(Bench(tmp_path, await start_gateway(settings, policy), port))
        tone_file(tmp_path / "agent.ul", AGENT_HZ)
        tone_file(tmp_path / "prospect.ul", PROSPECT_HZ)
        return made[-1]

    yield start
    for bench in made:
        await bench.close()


def caller(directory: Path, talk: int = 2000, *, ring_is_optional: bool = True) -> Scenario:
    """INVITE with an offer, audio, BYE."""
    return (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp())
        .receive(100, optional=True)
        .receive(180, optional=ring_is_optional)
        .receive(200, attributes='rrs="true"')
        .ack()
        .play(directory / "agent.ul")
        .pause(talk)
        .request("BYE", 2)
        .receive(200)
    )


def callee(directory: Path, name: str = "callee") -> Scenario:
    """180, 200 with an answer, audio, BYE answered; a lost answer to BYE is given again."""
    return (
        Scenario(name)
        .receive("INVITE", attributes='rrs="true"')
        .respond(180)
        .respond(200, body=sdp(), retransmit=True)
        .receive("ACK")
        .play(directory / "prospect.ul")
        .receive("BYE")
        .respond_in_dialog(200)
        .step('<timewait milliseconds="2000"/>')
    )


def all_good(counts: tuple[Counts, Counts], calls: int) -> None:
    for side in counts:
        assert (side.successful, side.failed, side.code) == (calls, 0, 0), side.errors


async def test_200_calls_at_20_a_second_are_all_recorded_clean(make: Make, tmp_path: Path) -> None:
    bench = await make()
    all_good(await bench.run(caller(tmp_path), callee(tmp_path), calls=200, rate=20, limit=60), 200)
    manifests = await bench.settled(200)
    assert len(manifests) == 200
    assert {m["outcome"] for m in manifests} == {"complete"}
    assert {m["decision"]["reason"] for m in manifests} == {"one_party"}
    bench.check_audio()
    bench.clean()
    assert len((await bench.gateway.store.history.calls(CallFilter(organization="acme"), limit=500)).rows) == 200


async def test_a_tenth_of_the_messages_lost(make: Make, tmp_path: Path) -> None:
    bench = await make(sip={"t1_milliseconds": 500})
    counts, _ = await bench.run(caller(tmp_path, 500), callee(tmp_path), calls=200, rate=20, lost=10, limit=90)
    assert counts.failed <= 2, counts.errors
    assert counts.successful >= 198
    async with asyncio.timeout(60):
        while bench.gateway.calls.calls:
            await asyncio.sleep(0.05)
    bench.clean()


async def test_delayed_offer(make: Make, tmp_path: Path) -> None:
    """INVITE without SDP: the offer comes in the 200, the answer in the ACK (RFC 3264, RFC 3261 13.2.1)."""
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False)
        .receive(100, optional=True)
        .receive(180, optional=True)
        .receive(200, attributes='rrs="true"')
        .ack(body=sdp())
        .play(tmp_path / "agent.ul")
        .pause(1500)
        .request("BYE", 2)
        .receive(200)
    )
    bench = await make()
    all_good(await bench.run(near, callee(tmp_path), calls=3, rate=10), 3)
    manifests = await bench.settled(3)
    assert all(m["legs"]["agent"]["placed"] > 40 and m["legs"]["prospect"]["placed"] > 40 for m in manifests)
    bench.clean()


async def test_digest(make: Make, tmp_path: Path) -> None:
    """No trusted peer: the agent answers a challenge with its password."""
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp())
        .receive(100, optional=True)
        .receive(407, attributes='auth="true"')
        .ack_failure(1)
        .request("INVITE", 2, to_tag=False, body=sdp(), headers=["[authentication username=alice password=secret]"])
        .receive(100, optional=True)
        .receive(180, optional=True)
        .receive(200, attributes='rrs="true"')
        .ack(2)
        .play(tmp_path / "agent.ul")
        .pause(500)
        .request("BYE", 3)
        .receive(200)
    )
    bench = await make(trusted=False)
    all_good(await bench.run(near, callee(tmp_path), calls=3, rate=10), 3)
    assert [m["call"]["agent"]["username"] for m in await bench.settled(3)] == ["alice"] * 3


async def test_a_wrong_password_reaches_no_carrier(make: Make, tmp_path: Path) -> None:
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp())
        .receive(100, optional=True)
        .receive(407, attributes='auth="true"')
        .ack_failure(1)
        .request("INVITE", 2, to_tag=False, body=sdp(), headers=["[authentication username=alice password=wrong]"])
        .receive(100, optional=True)
        .receive(407)
        .ack_failure(2)
    )
    bench = await make(trusted=False)
    caller_run = await start_sipp(near, tmp_path, remote=bench.address())
    bench.running.append(caller_run)
    counts = await caller_run.counts()
    assert (counts.successful, counts.failed) == (1, 0), counts.errors
    assert bench.manifests() == []


async def test_early_media_hold_codec_change_and_the_callee_hangs_up(make: Make, tmp_path: Path) -> None:
    """183 with SDP; re-INVITEs of the caller: hold, back, A-law; then the callee's own re-INVITE, UPDATE and BYE."""
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp())
        .receive(100, optional=True)
        .receive(183)
        .receive(200, attributes='rrs="true"')
        .ack()
        .play(tmp_path / "agent.ul")
        .pause(500)
    )
    for cseq, changes in ((2, {"direction": "sendonly"}), (3, {}), (4, {"codec": "PCMA"})):
        near.request("INVITE", cseq, body=sdp(version=cseq, **changes)).receive(100, optional=True)  # type: ignore[arg-type]
        near.receive(200).ack(cseq).pause(300)
    near.receive("INVITE").respond_in_dialog(200, body=sdp(version=5, codec="PCMA")).receive("ACK")
    near.receive("UPDATE").respond_in_dialog(200, body=sdp(version=6, codec="PCMA"))
    near.receive("BYE").respond_in_dialog(200)
    far = (
        Scenario("callee")
        .receive("INVITE", attributes='rrs="true"', action=REMEMBER)
        .respond(183, body=sdp())
        .play(tmp_path / "prospect.ul")
        .pause(300)
        .respond(200, body=sdp(), retransmit=True)
        .receive("ACK")
    )
    for version, changes in ((2, {"direction": "recvonly"}), (3, {}), (4, {"codec": "PCMA"})):
        far.receive("INVITE").respond_in_dialog(200, body=sdp(version=version, **changes)).receive("ACK")  # type: ignore[arg-type]
    far.pause(600)
    far.request_from_callee("INVITE", 10, body=sdp(version=5, codec="PCMA")).receive(100, optional=True).receive(200)
    far.request_from_callee("ACK", 10)
    far.request_from_callee("UPDATE", 11, body=sdp(version=6, codec="PCMA")).receive(200)
    far.request_from_callee("BYE", 12).receive(200)
    bench = await make()
    all_good(await bench.run(near, far), 1)
    manifest = (await bench.settled(1))[0]
    assert manifest["outcome"] == "complete"
    assert manifest["termination"]["ended_by"] == "prospect"
    bench.clean()


async def test_cancel_while_it_rings(make: Make, tmp_path: Path) -> None:
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp())
        .receive(100, optional=True)
        .receive(180)
        .pause(200)
        .step(
            '<send retrans="500"><![CDATA[\nCANCEL sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\n'
            "[last_From:]\nTo: <sip:[service]@[remote_ip]:[remote_port]>\n[last_Call-ID:]\nCSeq: 1 CANCEL\n"
            "Max-Forwards: 70\nContent-Length: 0\n\n]]></send>"
        )
        .receive(200)
        .receive(487)
        .ack_failure(1)
    )
    far = (
        Scenario("callee")
        .receive("INVITE", attributes='rrs="true"')
        .respond(180)
        .receive("CANCEL")
        .respond_in_dialog(200)
        .step(
            '<send retrans="500"><![CDATA[\nSIP/2.0 487 Request Terminated\n[last_Via:]\n[last_From:]\n'
            "[last_To:];tag=[pid]SIPp[call_number]\n[last_Call-ID:]\nCSeq: 1 INVITE\nContent-Length: 0\n\n]]></send>"
        )
        .receive("ACK")
    )
    bench = await make()
    counts = await bench.run(near, far)
    all_good(counts, 1)
    assert not list((tmp_path / "recordings").glob("**/*.wav"))


async def test_no_ack_ends_both_legs(make: Make, tmp_path: Path) -> None:
    """The 200 is sent again until 64*T1, then both legs get BYE (RFC 3261 13.3.1.4)."""
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp(), retransmit=False)
        .receive(100, optional=True)
        .receive(180, optional=True)
    )
    for _ in range(2):
        near.receive(200)
    for _ in range(20):
        near.step('<recv response="200" optional="true"/>')
    near.receive("BYE").respond_in_dialog(200)
    bench = await make()
    counts = await bench.run(near, callee(tmp_path))
    assert counts[1].successful == 1, counts[1].errors
    async with asyncio.timeout(20):
        while bench.gateway.calls.calls:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("status", "wanted"), [(486, 486), (404, 404), (503, 503), (603, 603)])
async def test_failures_are_mapped(make: Make, tmp_path: Path, status: int, wanted: int) -> None:
    near = (
        Scenario("caller")
        .request("INVITE", 1, to_tag=False, body=sdp())
        .receive(100, optional=True)
        .receive(wanted)
        .ack_failure(1)
    )
    far = Scenario("callee").receive("INVITE").respond(status, retransmit=True).receive("ACK")
    bench = await make()
    all_good(await bench.run(near, far, calls=3, rate=10), 3)
    bench.clean()


async def test_the_second_trunk_takes_over_on_503(make: Make, tmp_path: Path) -> None:
    refusing = Scenario("refusing").receive("INVITE").respond(503, retransmit=True).receive("ACK")
    port = free_port()
    bench = await make(first=Trunk(name="first", host="127.0.0.1", port=port))
    first = await start_sipp(refusing, tmp_path, port=port)
    bench.running.append(first)
    all_good(await bench.run(caller(tmp_path, 500), callee(tmp_path), calls=3, rate=10), 3)
    assert (await first.counts()).successful == 1  # it then rests, and the other is asked at once
    answered = [event for m in await bench.settled(3) for event in m["events"] if event["event"] == "answered"]
    assert [event["trunk"] for event in answered] == ["carrier"] * 3


async def test_the_second_trunk_takes_over_on_silence(make: Make, tmp_path: Path) -> None:
    bench = await make(
        first=Trunk(name="first", host="127.0.0.1", port=free_port()), sip={"trunk_timeout_seconds": 1.0}
    )
    all_good(await bench.run(caller(tmp_path, 500), callee(tmp_path), calls=2, rate=10), 2)


async def test_tcp_on_both_legs(make: Make, tmp_path: Path) -> None:
    bench = await make(trunk={"transport": "tcp"})
    remote = bench.address("tcp")
    counts = await bench.run(
        caller(tmp_path, 1000), callee(tmp_path), calls=10, rate=10, transport="t1", caller_remote=remote
    )
    all_good(counts, 10)
    assert len(await bench.settled(10)) == 10
    bench.clean()


async def test_ipv6_on_the_agents_leg_and_ipv4_on_the_other(make: Make, tmp_path: Path) -> None:
    bench = await make()
    counts = await bench.run(
        caller(tmp_path, 1000), callee(tmp_path), calls=3, rate=10, caller_host="::1",
        caller_remote=bench.address("udp", "::1"),
    )  # fmt: skip
    all_good(counts, 3)
    manifests = await bench.settled(3)
    assert all(m["legs"]["agent"]["placed"] > 20 and m["legs"]["prospect"]["placed"] > 20 for m in manifests)
    bench.clean()


async def test_ipv6_on_both_legs(make: Make, tmp_path: Path) -> None:
    bench = await make(trunk={"host": "::1"})
    counts = await bench.run(
        caller(tmp_path, 1000),
        callee(tmp_path),
        calls=3,
        rate=10,
        host="::1",
        caller_remote=bench.address("udp", "::1"),
    )
    all_good(counts, 3)
    assert len(await bench.settled(3)) == 3
    bench.clean()
