"""SIPp as caller and as callee: scenarios in a few words, runs with their counts.

SIPp's own time (retransmissions, pauses) is real; a run is waited for by its end, never by a sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import math
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tests.support.rtp_peer import ulaw

SIPP = "sipp"
SDP = """\
v=0
o=sipp 1 {version} IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio {port} RTP/AVP {payload_type}
a=rtpmap:{payload_type} {codec}/8000
a={direction}
"""


def sdp(
    *, port: str = "[rtpstream_audio_port]", direction: str = "sendrecv", version: int = 1, codec: str = "PCMU"
) -> str:
    """One audio stream; ``port`` is a SIPp keyword or a number."""
    payload_type = {"PCMU": 0, "PCMA": 8}[codec]
    return SDP.format(port=port, direction=direction, version=version, codec=codec, payload_type=payload_type)


class Scenario:
    """A SIPp scenario that is put together step by step; every method gives the scenario back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._steps: list[str] = []

    def xml(self) -> str:
        """The scenario file."""
        head = '<?xml version="1.0" encoding="UTF-8" ?>\n'  # its parser asks for one
        return f"{head}<scenario name={quoteattr(self.name)}>\n" + "\n".join(self._steps) + "\n</scenario>\n"

    def send(self, message: str, *, retransmit: bool = False, attributes: str = "") -> Scenario:
        """Send a message; ``retransmit`` as RFC 3261 does until the next message that is waited for."""
        retrans = ' retrans="500"' if retransmit else ""
        self._steps.append(f"<send{retrans} {attributes}><![CDATA[\n{message.strip()}\n\n]]></send>")
        return self

    def receive(self, what: str | int, *, optional: bool = False, attributes: str = "", action: str = "") -> Scenario:
        """Wait for a response (a number) or a request (a method)."""
        kind = "response" if isinstance(what, int) else "request"
        maybe = ' optional="true"' if optional else ""
        self._steps.append(f'<recv {kind}="{what}"{maybe} {attributes}>{action}</recv>')
        return self

    def pause(self, milliseconds: int) -> Scenario:
        self._steps.append(f'<pause milliseconds="{milliseconds}"/>')
        return self

    def play(self, audio: Path, payload_type: int = 0) -> Scenario:
        """Stream raw G.711 over and over, 20 ms a packet."""
        self._steps.append(f"<nop><action><exec rtp_stream={quoteattr(f'{audio},-1,{payload_type}')}/></action></nop>")
        return self

    def step(self, xml: str) -> Scenario:
        """Anything else of SIPp's language."""
        self._steps.append(xml)
        return self

    # -- the caller's messages -----------------------------------------------------------------------------------------

    def request(
        self, method: str, cseq: int, *, body: str = "", to_tag: bool = True, headers: Sequence[str] = (),
        retransmit: bool = True, attributes: str = "",
    ) -> Scenario:  # fmt: skip
        """A request of the caller: the first INVITE has no ``to_tag``."""
        target = "[next_url]" if to_tag else "sip:[service]@[remote_ip]:[remote_port]"
        lines = [
            f"{method} {target} SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
            *(["[routes]"] if to_tag else []),
            "From: <sip:alice@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]",
            f"To: <sip:[service]@[remote_ip]:[remote_port]>{'[peer_tag_param]' if to_tag else ''}",
            "Call-ID: [call_id]",
            f"CSeq: {cseq} {method}",
            *(["Contact: <sip:alice@[local_ip]:[local_port];transport=[transport]>"] if method in TARGETS else []),
            "Max-Forwards: 70",
            *(["Allow: INVITE, ACK, CANCEL, BYE, UPDATE"] if method == "INVITE" else []),
            *headers,
            *(["Content-Type: application/sdp"] if body else []),
            "Content-Length: [len]",
        ]
        return self.send("\n".join(lines) + f"\n\n{body}", retransmit=retransmit, attributes=attributes)

    def ack_failure(self, cseq: int = 1) -> Scenario:
        """ACK of a final response that is no 2xx: the INVITE's own transaction (RFC 3261 17.1.1.3)."""
        lines = (
            "ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0", "[last_Via:]", "[last_From:]", "[last_To:]",
            "[last_Call-ID:]", f"CSeq: {cseq} ACK", "Max-Forwards: 70", "Content-Length: 0",
        )  # fmt: skip
        return self.send("\n".join(lines))

    def ack(self, cseq: int = 1, body: str = "") -> Scenario:
        return self.request("ACK", cseq, body=body, retransmit=False)

    # -- the callee's messages -----------------------------------------------------------------------------------------

    def respond(
        self, status: int, *, body: str = "", headers: Sequence[str] = (), retransmit: bool = False
    ) -> Scenario:
        """Answer the last request that was received."""
        lines = [
            f"SIP/2.0 {status} {escape(REASONS.get(status, 'Answer'))}",
            "[last_Via:]",
            "[last_From:]",
            "[last_To:];tag=[pid]SIPp[call_number]" if status > 100 else "[last_To:]",
            "[last_Call-ID:]",
            "[last_CSeq:]",
            "Contact: <sip:bob@[local_ip]:[local_port];transport=[transport]>",
            *headers,
            *(["Content-Type: application/sdp"] if body else []),
            "Content-Length: [len]",
        ]
        return self.send("\n".join(lines) + f"\n\n{body}", retransmit=retransmit)

    def respond_in_dialog(self, status: int, *, body: str = "") -> Scenario:
        """Answer a request that has both tags already."""
        lines = [
            f"SIP/2.0 {status} {REASONS.get(status, 'Answer')}",
            "[last_Via:]", "[last_From:]", "[last_To:]", "[last_Call-ID:]", "[last_CSeq:]",
            "Contact: <sip:bob@[local_ip]:[local_port];transport=[transport]>",
            *(["Content-Type: application/sdp"] if body else []),
            "Content-Length: [len]",
        ]  # fmt: skip
        return self.send("\n".join(lines) + f"\n\n{body}")

    def request_from_callee(self, method: str, cseq: int, *, body: str = "") -> Scenario:
        """A request of the callee within the dialog: From and To of the last INVITE change places."""
        lines = [
            f"{method} [next_url] SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
            "From:[$to];tag=[pid]SIPp[call_number]",
            "To:[$remote]",
            "Call-ID: [call_id]",
            f"CSeq: {cseq} {method}",
            *(["Contact: <sip:bob@[local_ip]:[local_port];transport=[transport]>"] if method in TARGETS else []),
            "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []),
            "Content-Length: [len]",
        ]
        return self.send("\n".join(lines) + f"\n\n{body}", retransmit=method != "ACK")


TARGETS = ("INVITE", "UPDATE")
REASONS = {180: "Ringing", 183: "Session Progress", 200: "OK", 404: "Not Found", 486: "Busy Here"}
REMEMBER = (
    '<action><ereg regexp=".*" search_in="hdr" header="From:" assign_to="remote"/>'
    '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="to"/></action>'
)
"""Action of the callee at INVITE: keep both ends of the dialog for requests of its own."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What SIPp says of a run."""

    successful: int
    failed: int
    errors: str
    code: int


@dataclass
class Sipp:
    """A running SIPp; ``port`` is where its SIP is."""

    process: asyncio.subprocess.Process
    directory: Path
    port: int

    async def counts(self, seconds: float = 120.0) -> Counts:
        """Wait for its end. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
        rows = list(csv.DictReader((self.directory / "stat.csv").open(encoding="latin-1"), delimiter=";"))
        errors = self.directory / "errors.log"
        return Counts(
            int(rows[-1]["SuccessfulCall(C)"]),
            int(rows[-1]["FailedCall(C)"]),
            errors.read_text("latin-1")[:4000] if errors.exists() else "",
            code,
        )

    async def stop(self) -> None:
        """Kill it, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


def free_port(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> int:
    """A port that is free for UDP and TCP now."""
    for _ in range(50):
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family, socket.SOCK_STREAM) as tcp:
            udp.bind((host, 0))
            port = int(udp.getsockname()[1])
            with contextlib.suppress(OSError):
                tcp.bind((host, port))
                return port
    raise OSError("no free port")


MEDIA_PORTS: Iterator[int] = iter(range(40000, 60000, 10))


async def start_sipp(
    scenario: Scenario,
    directory: Path,
    *,
    remote: str | None = None,
    number: str = "+12125550123",
    calls: int = 1,
    rate: float = 20,
    transport: str = "u1",
    host: str = "127.0.0.1",
    port: int | None = None,
    lost: int = 0,
    limit: int = 30,
    options: Sequence[str] = (),
) -> Sipp:
    """Start a caller (``remote`` given) or a callee, and wait until a callee listens.

    ``lost`` is the share of SIP messages, in percent, that SIPp throws away, sent and received.
    ``limit``: seconds after which the run has failed.
    """
    where = directory / f"{scenario.name}-{next(NUMBERS)}"
    where.mkdir()
    (where / "scenario.xml").write_text(scenario.xml(), encoding="utf-8")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    port = port or free_port(family, host)
    bracketed = f"[{host}]" if ":" in host else host
    output = (where / "output.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        SIPP, *([remote] if remote else []), "-sf", "scenario.xml", "-i", bracketed, "-mi", bracketed, "-p", str(port),
        "-t", transport, "-m", str(calls), "-r", str(rate), "-s", number, "-nostdin",
        "-mp", str(next(MEDIA_PORTS)),
        "-trace_err", "-error_file", "errors.log", "-trace_stat", "-stf", "stat.csv", "-fd", "1",
        "-timeout", str(limit), "-timeout_error", *(["-lost", str(lost)] if lost else []), *options,
        cwd=where, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
    )  # fmt: skip
    output.close()
    running = Sipp(process, where, port)
    if remote is None:
        await _listening(running, transport, family, port)
    return running


NUMBERS: Iterator[int] = iter(range(1_000_000))


async def _listening(sipp: Sipp, transport: str, family: socket.AddressFamily, port: int) -> None:
    """Until the kernel shows the port as bound."""
    protocol = "udp" if transport.startswith("u") else "tcp"
    table = Path("/proc/net") / f"{protocol}{'6' if family is socket.AF_INET6 else ''}"
    async with asyncio.timeout(20):
        while f":{port:04X} " not in table.read_text():
            if sipp.process.returncode is not None:
                raise RuntimeError(f"sipp ended at once: {(sipp.directory / 'output.log').read_text('latin-1')[-500:]}")
            await asyncio.sleep(0.02)


def tone_file(path: Path, hertz: float) -> Path:
    """A second of a tone of whole hertz (so that it loops) as raw mu-law."""
    path.write_bytes(ulaw([int(8000 * math.sin(2 * math.pi * hertz * index / 8000)) for index in range(8000)]))
    return path
