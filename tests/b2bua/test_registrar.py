"""The registrar, without sockets."""

from __future__ import annotations

import pytest

from gateway.b2bua.registrar import MAX_CONTACTS, Registrar
from gateway.sip.errors import SipError
from gateway.sip.flow import Flow
from gateway.sip.message import Request

FLOW = Flow("udp", "192.0.2.1", 5060, "198.51.100.7", 40000)


def register(*contacts: str, cseq: int = 1, call_id: str = "a", expires: str | None = None) -> Request:
    headers = [("call-id", call_id), ("cseq", f"{cseq} REGISTER"), *(("contact", c) for c in contacts)]
    if expires is not None:
        headers.append(("expires", expires))
    return Request("REGISTER", "sip:example.com", headers)


def uris(registrar: Registrar, now: float = 0.0) -> list[str]:
    return [target.uri for target in registrar.contacts("bob", now)]


def test_a_contact_lives_as_long_as_it_said() -> None:
    registrar = Registrar()
    headers = registrar.register("bob", register("<sip:bob@198.51.100.7:5062>;expires=60"), FLOW, 0.0)
    assert headers == (("contact", "<sip:bob@198.51.100.7:5062>;expires=60"),)
    assert uris(registrar, 59.9) == ["sip:bob@198.51.100.7:5062"]
    assert uris(registrar, 60.0) == []


def test_a_contact_behind_nat_is_reached_where_it_came_from() -> None:
    registrar = Registrar()
    registrar.register("bob", register("<sip:bob@10.0.0.5:5060>"), FLOW, 0.0)
    (target,) = registrar.contacts("bob", 1.0)
    assert (target.host, target.port) == ("198.51.100.7", 40000)


def test_a_contact_at_its_own_address_is_reached_at_its_port() -> None:
    registrar = Registrar()
    registrar.register("bob", register("<sip:bob@198.51.100.7:5062>"), FLOW, 0.0)
    (target,) = registrar.contacts("bob", 1.0)
    assert (target.host, target.port) == ("198.51.100.7", 5062)


def test_a_connection_is_reused_whatever_the_contact_says() -> None:
    registrar = Registrar()
    flow = FLOW._replace(transport="tcp")
    registrar.register("bob", register("<sip:bob@198.51.100.7:5062;transport=tcp>"), flow, 0.0)
    (target,) = registrar.contacts("bob", 1.0)
    assert target.flow == flow


def test_star_removes_all_and_only_with_expires_zero() -> None:
    registrar = Registrar()
    registrar.register("bob", register("<sip:bob@192.0.2.9>"), FLOW, 0.0)
    with pytest.raises(SipError) as refused:
        registrar.register("bob", register("*", cseq=2), FLOW, 0.0)
    assert refused.value.status == 400
    registrar.register("bob", register("*", cseq=3, expires="0"), FLOW, 0.0)
    assert uris(registrar) == []


def test_an_overtaken_register_changes_nothing() -> None:
    registrar = Registrar()
    registrar.register("bob", register("<sip:bob@192.0.2.9>", cseq=5), FLOW, 0.0)
    with pytest.raises(SipError) as refused:
        registrar.register("bob", register("<sip:bob@192.0.2.9>;expires=0", cseq=4), FLOW, 1.0)
    assert refused.value.status == 500
    assert uris(registrar, 1.0) == ["sip:bob@192.0.2.9"]
    registrar.register("bob", register("<sip:bob@192.0.2.9>;expires=0", cseq=1, call_id="after-reboot"), FLOW, 2.0)
    assert uris(registrar, 2.0) == []


def test_too_short_an_interval_is_refused_with_the_least_that_is_taken() -> None:
    with pytest.raises(SipError) as refused:
        Registrar().register("bob", register("<sip:bob@192.0.2.9>", expires="1"), FLOW, 0.0)
    assert refused.value.status == 423
    assert refused.value.headers == (("min-expires", "30"),)


def test_the_number_of_contacts_is_bounded() -> None:
    registrar = Registrar()
    for index in range(MAX_CONTACTS):
        registrar.register("bob", register(f"<sip:bob@192.0.2.{index}>", call_id=str(index)), FLOW, 0.0)
    with pytest.raises(SipError):
        registrar.register("bob", register("<sip:bob@192.0.2.200>", call_id="more"), FLOW, 0.0)
    assert len(uris(registrar)) == MAX_CONTACTS


@pytest.mark.parametrize(
    "contact",
    ["<>", "sip:", "<tel:123>", "<sip:bob@host", '"x <sip:a@b>', "<sip:a@b:99999>", "sip:a@b?Route=x"],
)
def test_a_bad_contact_is_refused_and_changes_nothing(contact: str) -> None:
    registrar = Registrar()
    registrar.register("bob", register("<sip:bob@192.0.2.9>"), FLOW, 0.0)
    with pytest.raises(SipError):
        registrar.register("bob", register(contact, cseq=2), FLOW, 0.0)
    assert uris(registrar) == ["sip:bob@192.0.2.9"]


def test_a_contact_with_escaped_headers_is_kept_and_called_without_them() -> None:
    """RFC 4475 3.3.14; a Request-URI has no headers (RFC 3261 19.1.1)."""
    registrar = Registrar()
    contact = "<sip:bob@192.0.2.9?Route=%3Csip:sip.example%3E>"
    (answer,) = registrar.register("bob", register(contact), FLOW, 0.0)
    assert answer[1].startswith(f"{contact};expires=")
    (target,) = registrar.contacts("bob", 1.0)
    assert target.uri == "sip:bob@192.0.2.9"


def test_a_query_lists_the_contacts() -> None:
    registrar = Registrar()
    registrar.register("bob", register("<sip:bob@192.0.2.9>", expires="100"), FLOW, 0.0)
    assert registrar.register("bob", register(cseq=2), FLOW, 40.0) == (("contact", "<sip:bob@192.0.2.9>;expires=60"),)
