"""Bad input at a whole gateway's real sockets: it goes on serving, and the next call is recorded."""

from __future__ import annotations

import asyncio
import socket

from scripts.audit_recordings import audit
from tests.support.mutator import datagram, mutations, packet_mutations, stream_mutations
from tests.support.rig import Rig

MESSAGES, PACKETS, STREAMS = 6_000, 4_000, 300


def udp(rig: Rig) -> tuple[str, int]:
    host, port = rig.address.rsplit(":", 1)
    return host, int(port)


async def bombard_udp(rig: Rig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        for number, data in enumerate(mutations(11, MESSAGES)):
            sock.sendto(datagram(data), udp(rig))
            if number % 20 == 0:
                await asyncio.sleep(0)


async def bombard_tcp(rig: Rig) -> None:
    address = next(a for a in rig.gateway.addresses if a.endswith("transport=tcp") and "127.0.0.1" in a)
    host, port = address.removeprefix("sip:").partition(";")[0].rsplit(":", 1)
    for chunks in stream_mutations(12, STREAMS):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for chunk in chunks:
                writer.write(chunk)
            writer.write_eof()
            async with asyncio.timeout(5):
                while await reader.read(65536):
                    pass
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()


async def bombard_media(rig: Rig) -> None:
    """Every port of the media range that is open, from a stranger."""
    settings = rig.gateway.settings.media
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number, data in enumerate(packet_mutations(13, PACKETS)):
            sock.sendto(datagram(data), ("127.0.0.1", settings.port_min + number % 8))
            if number % 20 == 0:
                await asyncio.sleep(0)


async def test_it_goes_on_serving_and_recording(rig: Rig) -> None:
    call, far = await rig.call("+12125550123")
    await asyncio.gather(call.rtp.heard(20), far.rtp.heard(20))
    await asyncio.gather(bombard_udp(rig), bombard_tcp(rig), bombard_media(rig))
    await asyncio.gather(*(end.rtp.heard(len(end.rtp.received) + 50) for end in (call, far)))
    await rig.hang_up(call, far)
    recorded = await rig.recorded("+12125550123")
    assert recorded.manifest["decision"]["mode"] == "both"
    assert recorded.level(0, 440.0) - recorded.level(0, 1000.0) >= 60
    again, other = await rig.call("+12125550124")
    await again.rtp.heard(30)
    await rig.hang_up(again, other)
    await rig.recorded("+12125550124")
    registry = rig.gateway.calls._metrics._metrics.registry  # type: ignore[attr-defined]
    assert registry.get_sample_value("twoparty_exceptions_total") == 0
    assert registry.get_sample_value("twoparty_malformed_messages_total") > 100
    assert audit(rig.directory / "recordings").findings == []
