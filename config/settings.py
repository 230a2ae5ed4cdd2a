"""Typed gateway settings: a TOML file over the embedded ``default.toml``, the environment over both.

Every key can be given as an environment variable: ``TWOPARTY_`` + the path with ``__`` between its parts
(``TWOPARTY_STORE__URL``). An unknown key is an error that names it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

_SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"
_KEYS = r"^[0-9*#A-D]{0,16}$"
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+", re.ASCII)
_NEVER_PASSED = frozenset({
    "accept", "accept-encoding", "allow", "authorization", "call-id", "contact", "content-encoding", "content-length",
    "content-type", "cseq", "from", "max-forwards", "mime-version", "proxy-authenticate", "proxy-authorization",
    "proxy-require", "rack", "record-route", "require", "route", "rseq", "server", "session-expires", "supported", "to",
    "unsupported", "user-agent", "via", "www-authenticate", "x-prospect-state",
})  # fmt: skip
"""Headers that each leg writes for itself, or that say what only the gateway may know (X-Prospect-State)."""
_LISTEN = re.compile(r"(udp|tcp|tls):(\[[0-9a-fA-F:.]+\]|[0-9.]+):([0-9]{1,5})", re.ASCII)


class SettingsError(Exception):
    """The settings can't be used; the message names the file and the key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _literal(value: str) -> str:
    return str(ipaddress.ip_address(value))


Transport = Literal["udp", "tcp", "tls"]
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPLiteral = Annotated[str, BeforeValidator(_literal)]


def _none(value: Any) -> Any:
    return value or None


OptionalPath = Annotated[Path | None, BeforeValidator(_none)]


class Listen(_Section):
    """One listening address: ``udp:127.0.0.1:5060``, ``tls:[::1]:5061``; port 0 lets the system choose."""

    transport: Transport
    host: IPLiteral
    port: int = Field(ge=0, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _LISTEN.fullmatch(value)
        if match is None:
            raise ValueError(f"{value!r} is not of the form udp:HOST:PORT (or tcp, tls) with an IP literal")
        return {"transport": match[1], "host": match[2].strip("[]"), "port": int(match[3])}

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


class Sip(_Section):
    """``[sip]``: who we are on the wire, and the limits of a call."""

    listen: tuple[Listen, ...] = Field(min_length=1)
    realm: str = Field(
        min_length=1, description="Digest realm; part of every stored HA1, so changing it voids passwords"
    )
    digest_algorithms: tuple[Literal["MD5", "SHA-256"], ...] = Field(
        min_length=1, description="Challenges in this order; a client answers the first that it knows (RFC 8760)"
    )
    user_agent: str = ""
    no_answer_seconds: float = Field(
        gt=0, description="A callee that rings longer is cancelled, the caller gets 408/480"
    )
    trunk_timeout_seconds: float = Field(gt=0, description="A trunk silent this long after INVITE is failed over")
    max_call_seconds: float = Field(ge=0, description="0 = no limit")
    max_calls: int = Field(gt=0, description="Beyond this many live calls, INVITE gets 503 with Retry-After")
    drain_seconds: float = Field(ge=0, description="How long live calls may go on after SIGTERM")
    headers_passed: tuple[str, ...] = Field(description="The allow-list of headers that pass from one leg to the other")
    advertise: dict[str, str] = Field(
        description="Listening host -> host in Via, Contact and From, for NAT and wildcards"
    )
    t1_milliseconds: int = Field(gt=0, le=4000, description="RFC 3261 T1")

    @field_validator("headers_passed")
    @classmethod
    def _passable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _TOKEN.fullmatch(name) or len(name) == 1:
                raise ValueError(f"{name!r} is not a header's full name")
            if name.lower() in _NEVER_PASSED:
                raise ValueError(f"{name} belongs to one leg alone and can't be passed to the other")
        return names


class KeyFiles(_Section):
    """A certificate with its chain and the private key, both PEM, the key without a pass phrase."""

    certificate: Path | None = None
    key: Path | None = None

    @field_validator("certificate", "key", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _both_or_none(self) -> KeyFiles:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class NamedKeyFiles(KeyFiles):
    """``[[tls.names]]``: another certificate for those who ask for ``name`` (SNI)."""

    name: str = Field(min_length=1, description="A host name, or *. and a domain")

    @model_validator(mode="after")
    def _given(self) -> NamedKeyFiles:
        if self.certificate is None:
            raise ValueError("certificate and key are missing")
        return self


class Tls(KeyFiles):
    """``[tls]``: SIP over TLS. The files are read again on SIGHUP; connections that are up stay up."""

    ca: OptionalPath = Field(default=None, description="PEM file of the CAs that are believed; empty = the system's")
    minimum_version: Literal["1.2", "1.3"]
    client_certificates: Literal["none", "asked", "required"] = Field(
        description="Whether those who connect have to show one; one that can't be verified is refused in any case"
    )
    names: tuple[NamedKeyFiles, ...] = ()


class Limits(_Section):
    """``[limits]``: what strangers may do, and when new calls are refused."""

    emergency_numbers: tuple[str, ...] = Field(description="Their calls pass first, whatever the limits")
    trusted: tuple[IPNetwork, ...] = Field(
        default=(), description="Networks that are answered and never limited or banned, without being peers"
    )
    agent_calls: int = Field(ge=0, description="How many calls an agent may have at once; 0 = no limit")
    overload_seconds: float = Field(
        ge=0, description="Work done later than this makes new calls be refused (503); 0 = never"
    )
    stranger_requests_per_second: float = Field(gt=0, description="From one address; what is over it is dropped")
    stranger_challenges_per_second: float = Field(gt=0, description="Likewise: unanswered challenges")
    ban_failures: int = Field(ge=1, description="So many wrong passwords in ban_window_seconds ban an address")
    ban_window_seconds: float = Field(gt=0)
    ban_seconds: float = Field(gt=0, description="Doubled each time that it comes back")
    nonce_seconds: float = Field(ge=10)
    scanners: tuple[str, ...] = Field(description="Parts of User-Agent that are dropped beside the known ones")
    message_bytes: int = Field(ge=1500, le=65535)
    message_headers: int = Field(ge=50, description="Header lines")
    body_bytes: int = Field(ge=1000, le=65535)
    connections: int = Field(gt=0, description="TCP and TLS together; more are refused")
    connections_per_source: int = Field(gt=0, description="From one address that is neither configured nor registered")
    message_seconds: float = Field(gt=0, description="From the first byte of a message on a connection to its last")
    stranger_seconds: float = Field(gt=0, description="How long a stranger may stay connected")
    idle_seconds: float = Field(gt=0, description="How long a connection may be silent; longer than registrations")
    write_seconds: float = Field(gt=0, description="How long a far end may not read what it is sent")
    handshake_seconds: float = Field(gt=0)


class Media(_Section):
    """``[media]``: RTP addresses and ports."""

    hosts: tuple[IPLiteral, ...] = Field(min_length=1, description="Local addresses to bind RTP on, one per IP family")
    advertise: dict[str, str] = Field(description="Bound address -> address written into SDP, for 1:1 NAT")
    port_min: int = Field(ge=1024, le=65534)
    port_max: int = Field(ge=1025, le=65535)
    workers: int = Field(ge=1, le=64)
    backend: Literal["auto", "io_uring", "epoll"] = Field(
        description="How the relay waits and sends; auto is io_uring where the kernel (6.1 or newer) allows it"
    )
    coalesce_microseconds: int = Field(
        ge=0, le=20000, description="How long a busy relay thread lets packets gather; this much latency, at the most"
    )
    coalesce_packets: int = Field(ge=1, le=1024, description="On io_uring: it goes on earlier when it has so many")
    ring_bytes: int = Field(ge=4096)
    port_quarantine_seconds: float = Field(ge=0)
    inactivity_seconds: float = Field(
        ge=0, description="No RTP from either leg this long (not on hold) ends the call; 0 = off"
    )

    @model_validator(mode="after")
    def _range(self) -> Media:
        if self.port_max - self.port_min < 3:
            raise ValueError("port_max must be at least port_min + 3 (one call takes four ports)")
        return self


class Recording(_Section):
    """``[recording]``: where the files go."""

    enabled: bool = Field(description="Off: no decision is asked and nothing is captured, for every organization")
    root: Path
    writers: int = Field(ge=1, le=64, description="Threads that decode and write; each recording is on one")
    step_seconds: float = Field(gt=0, le=2)
    format: Literal["wav", "flac", "ogg"] = Field(description="What a finished recording is kept as; ogg is Ogg Opus")
    keep_undecodable: bool = Field(
        description="Keep the payload of codecs that can't be decoded, of legs that are captured, as rtpdump files"
    )
    pause_keys: str = Field(pattern=_KEYS, description="What an agent presses to pause capture; empty = nothing")
    resume_keys: str = Field(pattern=_KEYS, description="The same to resume it; equal to pause_keys = either")
    opt_out_key: str = Field(pattern=r"^[0-9*#]?$", description="The prospect's key for no at any time; empty = none")
    opt_out_mode: Literal["agent_only", "none"] = Field(description="What is recorded from then on, at the most")
    beep_to: Literal["", "agent", "prospect", "both"] = Field(
        description="Who hears the recording beep; empty = nobody"
    )
    beep_hertz: float = Field(ge=200, le=3400)
    beep_milliseconds: float = Field(ge=20, le=2000)
    beep_seconds: float = Field(ge=1, le=3600, description="From one beep to the next")


class StoreSettings(_Section):
    """``[store]``: the database."""

    url: str = Field(description="SQLAlchemy URL, e.g. sqlite:///var/twoparty.db")


class Data(_Section):
    """``[data]``: reference data; empty = the files that come with the gateway."""

    jurisdictions: Path | None = None
    area_codes: Path | None = None

    @field_validator("jurisdictions", "area_codes", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return value or None


class Telemetry(_Section):
    """``[telemetry]``: log and metrics."""

    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["console", "json"]
    metrics: str = Field(description="HOST:PORT of the Prometheus endpoint, empty = none")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``metrics``, where there is one."""
        host, _, port = self.metrics.rpartition(":")
        return host.strip("[]") or "127.0.0.1", int(port)


class Web(_Section):
    """``[web]``: the page and the REST API."""

    listen: str = Field(description="HOST:PORT of page and API, port 0 lets the system choose; empty = none")
    page: bool = Field(description="Off: the API alone")
    session_hours: float = Field(gt=0, le=24 * 31)
    idle_minutes: float = Field(gt=0, le=24 * 60)
    support_contact: str = Field(description="Whom the page names for switching recording on again")
    certificate: Path | None = Field(default=None, description="PEM, for TLS of its own; empty = plain HTTP")
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = Field(default=(), description="Addresses whose X-Forwarded-* is believed")
    max_upload_megabytes: int = Field(gt=0)

    @field_validator("certificate", "key", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return value or None

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value:
            return value
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{value!r} is not HOST:PORT")
        ipaddress.ip_address(host.strip("[]"))
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None: nothing is served."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None

    @model_validator(mode="after")
    def _both_or_none(self) -> Web:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class _FarEnd(KeyFiles):
    """What trunks and peers share: how each proves itself over TLS."""

    name: str = Field(min_length=1)
    host: IPLiteral | None = None
    port: int = Field(default=0, ge=0, le=65535, description="0 = 5060, over TLS 5061")
    transport: Transport = "udp"
    server_name: str = Field(
        default="", description="TLS: the name that its certificate must carry; empty = its address must stand there"
    )
    ca: OptionalPath = Field(default=None, description="TLS: its CAs; empty = those of [tls]")
    max_calls: int = Field(default=0, ge=0, description="At once, both ways together; 0 = no limit")
    calls_per_second: float = Field(default=0, ge=0, description="New calls from it; 0 = no limit")
    certificate_names: tuple[str, ...] = Field(
        default=(),
        description="What comes from it must come over TLS, with a client certificate that has one of these names",
    )

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.certificate_names)

    @property
    def sip_port(self) -> int:
        """The port, or the default one of its transport."""
        return self.port or (5061 if self.transport == "tls" else 5060)


class Trunk(_FarEnd):
    """``[[trunks]]``: a carrier; tried in the order of the file, the next one on 503 or timeout. ``certificate`` and
    ``key``: what is shown when it asks for a client certificate, empty = those of ``[tls]``."""

    host: IPLiteral
    username: str = ""
    password: str = Field(default="", repr=False)
    networks: tuple[IPNetwork, ...] = Field(
        default=(), description="Where this carrier's inbound calls come from, beside its own host and port"
    )
    caller_id: str = Field(default="", description="From user on this trunk; empty = the agent's own number")


class Peer(_FarEnd):
    """``[[peers]]``: agents believed by their address (a PBX or dialer) or certificate, without digest."""

    networks: tuple[IPNetwork, ...] = Field(min_length=1)
    organization: str = Field(pattern=_SLUG)
    user: str = Field(default="", description="The agent; empty = the user part of From names the agent")
    trust_state_header: bool = Field(default=False, description="Believe X-Prospect-State from this peer")
    host: IPLiteral | None = Field(
        default=None, description="Where inbound calls for its agents go, beside registered contacts"
    )


class Announcement(_Section):
    """``[[announcements]]``: a WAV file that is played when a call is answered, before its two ends hear each other."""

    file: Path = Field(description="WAV, FLAC or Ogg of any rate, 5 minutes at the most")
    to: Literal["agent", "prospect", "both"] = Field(default="prospect", description="Who hears it")
    organization: str = Field(default="", pattern=rf"^$|{_SLUG}", description="Whose calls; empty = everybody's")
    modes: tuple[Literal["both", "agent_only", "none"], ...] = Field(
        default=("both",), min_length=1, description="With which decisions it is played"
    )
    where: Literal["always", "two_party"] = Field(
        default="always", description="two_party: only where the prospect's location is two-party, or not known"
    )
    consent_key: str = Field(
        default="", pattern=r"^[0-9*#]?$",
        description="What the prospect presses afterwards to consent; played only where that can change the decision",
    )  # fmt: skip
    consent_seconds: float = Field(default=10.0, gt=0, le=300, description="How long after its end the key counts")


class Settings(BaseSettings):
    """All settings of one gateway."""

    model_config = SettingsConfigDict(
        env_prefix="TWOPARTY_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    sip: Sip
    tls: Tls
    limits: Limits
    media: Media
    recording: Recording
    store: StoreSettings
    data: Data = Data()
    telemetry: Telemetry
    web: Web
    trunks: tuple[Trunk, ...] = ()
    peers: tuple[Peer, ...] = ()
    announcements: tuple[Announcement, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _wildcards_advertised(self) -> Settings:
        for where, hosts, known in (
            ("sip", [listen.host for listen in self.sip.listen], self.sip.advertise),
            ("media", self.media.hosts, self.media.advertise),
        ):
            for host in hosts:
                if host in ("0.0.0.0", "::") and host not in known:
                    raise ValueError(f"{where}.advertise: {host} needs the address that peers are to use")
        return self

    @model_validator(mode="after")
    def _tls_complete(self) -> Settings:
        """TLS is what was asked for or an error, never something less."""
        listening = {listen.transport for listen in self.sip.listen}
        if "tls" in listening and self.tls.certificate is None:
            raise ValueError("tls: a tls: listener needs certificate and key")
        for far in (*self.trunks, *self.peers):
            if far.transport == "tls" and "tls" not in listening:
                raise ValueError(f"{far.name}: transport tls needs a tls: listener")
            if far.certificate_names and ("tls" not in listening or self.tls.client_certificates == "none"):
                raise ValueError(f"{far.name}: certificate_names need a tls: listener and tls.client_certificates")
        return self

    @model_validator(mode="after")
    def _names_unique(self) -> Settings:
        for kind, names in (("trunks", [t.name for t in self.trunks]), ("peers", [p.name for p in self.peers])):
            if len(set(names)) != len(names):
                raise ValueError(f"{kind}: every name must be unique, got {', '.join(names)}")
        return self


def load(path: Path | None = None) -> Settings:
    """The settings of ``path`` (None = ``$TWOPARTY_CONFIG``, else none) over the embedded defaults.

    Raises SettingsError naming the file and the key.
    """
    if path is None and os.environ.get("TWOPARTY_CONFIG"):
        path = Path(os.environ["TWOPARTY_CONFIG"])
    merged = tomllib.loads(files("config").joinpath("default.toml").read_text(encoding="utf-8"))
    if path is not None:
        merged = _merge(merged, _read(path))
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else, lists included, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: ValidationError, path: Path | None) -> str:
    where = str(path) if path is not None else "settings"
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "(top level)"
        lines.append(f"{where}: {key}: {item['msg']}")
    return "\n".join(lines)
