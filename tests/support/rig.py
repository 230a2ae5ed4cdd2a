"""A whole gateway on ephemeral loopback ports with everything in a temporary directory, and phones around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from config.settings import Announcement, Peer, Settings, Trunk, load
from gateway.app import Gateway
from gateway.consent.policy import Policy
from gateway.sip.digest import ha1
from gateway.store.accounts import Ha1
from scripts.demo import tone_level
from scripts.phone import Phone, PhoneCall


@dataclass
class Recorded:
    """What the disk holds of one call."""

    manifest: dict[str, Any]
    audio: Path | None

    @property
    def rate(self) -> int:
        """The file's sample rate."""
        return int(self.manifest["audio"]["sample_rate"])

    @property
    def channels(self) -> list[np.ndarray[Any, Any]]:
        assert self.audio is not None
        samples, rate = soundfile.read(self.audio, always_2d=True)
        assert rate == self.rate
        return [samples[:, index] for index in range(samples.shape[1])]

    def level(self, channel: int, hertz: float, skip: float = 0.5) -> float:
        """The level of a tone in dBFS on a channel, without the first and last ``skip`` seconds."""
        samples = self.channels[channel]
        margin = int(skip * self.rate)
        return tone_level(samples[margin:-margin], hertz, self.rate)


@dataclass
class Rig:
    """A running gateway, one agent (digest or peer), one carrier."""

    directory: Path
    carrier: Phone
    agent: Phone
    gateway: Gateway
    phones: list[Phone] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.gateway.addresses[0].partition(";")[0].removeprefix("sip:")

    def uri(self, number: str) -> str:
        return f"sip:{number}@{self.address}"

    async def call(self, number: str, **options: Any) -> tuple[PhoneCall, PhoneCall]:
        """A call to ``number``; gives the agent's and the carrier's end of it."""
        call = await self.agent.call(self.uri(number), **options)
        async with asyncio.timeout(10):
            return call, await self.carrier.incoming.get()

    async def hang_up(self, call: PhoneCall, far: PhoneCall) -> None:
        call.hang_up()
        async with asyncio.timeout(10):
            await far.ended.wait()

    async def recorded(self, number: str) -> Recorded:
        """The recording of the call to ``number``, when it is finished."""
        async with asyncio.timeout(10):
            while True:
                for path in (self.directory / "recordings").glob("*/*/*/*/*.json"):
                    if path.name.endswith(".part.json"):
                        continue
                    manifest = json.loads(path.read_text(encoding="utf-8"))
                    if manifest["call"]["prospect"]["number"] == number:
                        audio = path.with_name(manifest["audio"]["file"]) if manifest["audio"] else None
                        return Recorded(manifest, audio if audio is not None and audio.exists() else None)
                await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.gateway.stop(0)
        for phone in (self.agent, self.carrier, *self.phones):
            await phone.close()


def settings_for(
    directory: Path,
    trunks: Sequence[Trunk],
    *,
    trusted: bool = True,
    announcements: Sequence[Announcement] = (),
    **sections: dict[str, Any],
) -> Settings:
    """The embedded defaults on ephemeral ports under ``directory``; ``sections`` are laid over.

    ``trusted``: whoever calls from loopback is believed; else agents answer a challenge.
    """
    base = load()
    changes: dict[str, dict[str, Any]] = {
        "sip": {
            "listen": ("udp:127.0.0.1:0", "tcp:127.0.0.1:0", "udp:[::1]:0", "tcp:[::1]:0"),
            "t1_milliseconds": 100,
        },
        "media": {"port_quarantine_seconds": 0.2},
        "recording": {"root": directory / "recordings", "step_seconds": 0.5},
        "store": {"url": f"sqlite:///{directory / 'gateway.db'}"},
        "web": {"listen": "", "page": False},
    }
    for name, values in sections.items():
        changes.setdefault(name, {}).update(values)
    merged = {name: {**getattr(base, name).model_dump(), **values} for name, values in changes.items()}
    peer = Peer(name="pbx", networks=("127.0.0.0/8", "::1/128"), organization="acme", trust_state_header=True)  # type: ignore[arg-type]
    peers = [peer] if trusted else []
    return Settings(**{**base.model_dump(), **merged, "peers": peers, "trunks": list(trunks),
                       "announcements": list(announcements)})  # fmt: skip


async def start_gateway(
    settings: Settings, policy: dict[str, Any] | None = None, *, password: str = "secret"
) -> Gateway:
    """A gateway with agent ``alice`` in Texas (organization acme)."""
    gateway = await Gateway.start(settings)
    realm = gateway.settings.sip.realm
    hashes = [ha1("alice", realm, password, name) for name in ("MD5", "SHA-256")]
    await gateway.store.accounts.add_user(
        "alice", "acme", credential=Ha1(realm, *hashes), create_organization=True, country="US", state="US-TX",
        numbers=["+12125550199"],
    )  # fmt: skip
    if policy:
        await gateway.store.policies.append("acme", Policy.from_mapping(policy), after=0, by="test")
    return gateway


async def start_rig(
    directory: Path,
    policy: dict[str, Any] | None = None,
    *,
    announcements: Sequence[Announcement] = (),
    **sections: dict[str, Any],
) -> Rig:
    """A gateway, its agent ``alice`` and a carrier."""
    carrier = await Phone.open(tone_hz=1000.0, username="carrier")
    agent = await Phone.open(tone_hz=440.0, username="alice")
    trunk = Trunk(name="carrier", host="127.0.0.1", port=carrier.port)
    settings = settings_for(directory, [trunk], announcements=announcements, **sections)
    gateway = await start_gateway(settings, policy)
    return Rig(directory, carrier, agent, gateway)
