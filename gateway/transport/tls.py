"""TLS for SIP (RFC 3261 §26, RFC 5922): contexts out of PEM files, made anew on request, never weaker than asked for.

Connections that are up keep the context they were made with; a reload that fails leaves the old one in its place.
No key material goes into any log: ``SSLKEYLOGFILE`` is not honoured.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from gateway.sip.uri import is_ip

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENTS: Final = {"none": ssl.CERT_NONE, "asked": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TlsError(Exception):
    """A certificate, key or CA file can't be used; the message names it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM files: a certificate with its chain, and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class FarEnd:
    """Whom we connect to, and how it is to prove itself."""

    host: str
    port: int
    server_name: str = ""
    """The name its certificate must carry, sent as SNI; empty: its address must stand in the certificate."""
    ca: Path | None = None
    """Whose certificates it may have; None: as in ``TlsSettings``."""
    own: KeyPair | None = None
    """What we show when it asks for a client certificate; None: as in ``TlsSettings``."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What contexts are made of."""

    own: KeyPair
    names: tuple[tuple[str, KeyPair], ...] = ()
    """Other certificates by the name that a client asks for (SNI, RFC 6066 §3)."""
    ca: Path | None = None
    """PEM file of the CAs that are believed; None: the system's."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    clients: Literal["none", "asked", "required"] = "none"
    """Whether those who connect have to show a certificate; one that can't be verified is always refused."""
    far_ends: tuple[FarEnd, ...] = ()


@dataclass
class _Contexts:
    """One generation of contexts."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    far_ends: dict[tuple[str, int], ssl.SSLContext] = field(default_factory=dict)


class TlsContexts:
    """The contexts in force. ``reload`` reads every file again."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises TlsError."""
        self.settings = settings
        self._names = {(far.host, far.port): far.server_name for far in settings.far_ends}
        self._contexts = self._read()

    def reload(self) -> None:
        """Use the files as they are now for all connections to come. Raises TlsError; then nothing has changed."""
        self._contexts = self._read()

    @property
    def server(self) -> ssl.SSLContext:
        """For a connection that is about to be accepted."""
        return self._contexts.server

    def client(self, host: str, port: int) -> tuple[ssl.SSLContext, str]:
        """For a connection to be opened: the context, and the name that the far end's certificate must carry."""
        context = self._contexts.far_ends.get((host, port), self._contexts.client)
        return context, self._names.get((host, port)) or host

    def _read(self) -> _Contexts:
        settings = self.settings
        contexts = _Contexts(self._server(settings.own), self._client(settings.ca, settings.own))
        others = {name.lower(): self._server(pair) for name, pair in settings.names}
        if others:
            contexts.server.sni_callback = _choose(others)
        for far in settings.far_ends:
            contexts.far_ends[far.host, far.port] = self._client(far.ca or settings.ca, far.own or settings.own)
        return contexts

    def _server(self, own: KeyPair) -> ssl.SSLContext:
        context = self._context(ssl.PROTOCOL_TLS_SERVER, own)
        context.verify_mode = _CLIENTS[self.settings.clients]
        if context.verify_mode is not ssl.CERT_NONE:
            _trust(context, self.settings.ca)
        return context

    def _client(self, ca: Path | None, own: KeyPair) -> ssl.SSLContext:
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, own)
        context.hostname_checks_common_name = False
        _trust(context, ca)
        return context

    def _context(self, protocol: Any, own: KeyPair) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = _VERSIONS[self.settings.minimum_version]
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            # a pass phrase would be asked for on the terminal
            context.load_cert_chain(own.certificate, own.key, password="")
        except (OSError, ValueError) as error:
            raise TlsError(f"{own.certificate}, {own.key}: {_why(error)}") from None
        return context


def _trust(context: ssl.SSLContext, ca: Path | None) -> None:
    if ca is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ValueError) as error:
        raise TlsError(f"{ca}: {_why(error)}") from None


def _choose(others: dict[str, ssl.SSLContext]) -> Any:
    """By SNI: the exact name, else a wildcard for its first label, else the certificate of ``[tls]`` itself."""

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        wanted = (name or "").lower()
        found = others.get(wanted) or others.get("*." + wanted.partition(".")[2])
        if found is not None:
            connection.context = found

    return choose


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).replace("_", " ").lower()


def certificate_names(certificate: dict[str, Any] | None) -> frozenset[str]:
    """Whom a verified certificate names, in lower case (RFC 5922 §7.1): the hosts of its ``sip:`` URIs, else its DNS
    names; IP addresses beside either. A common name without a subjectAltName counts for nothing."""
    alternatives: Iterable[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    uris = {value[4:].lower() for kind, value in alternatives if kind == "URI" and value.lower().startswith("sip:")}
    names = {value.lower() for kind, value in alternatives if kind == "DNS"}
    addresses = {value.lower() for kind, value in alternatives if kind == "IP Address" and is_ip(value)}
    return frozenset(uris or names) | addresses
