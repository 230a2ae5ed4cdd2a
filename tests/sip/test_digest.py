"""Digest authentication: the RFCs' vectors, our two ends against each other, and what must not get in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sip.digest import (
    MD5,
    SHA256,
    Challenge,
    Credentials,
    DigestServer,
    Ha1Pair,
    Verdict,
    authorization_for,
    digest_response,
    ha1,
    parse_digest_params,
    quoted,
    same_target,
)

SECRET = b"0123456789abcdef0123456789abcdef"
URI = "sip:+12125550100@gw.example.com"
REALM = "gw.example.com"
STORED = Ha1Pair(ha1("alice", REALM, "secret"), ha1("alice", REALM, "secret", SHA256))


def server(**options: float) -> DigestServer:
    return DigestServer(REALM, SECRET, **options)  # type: ignore[arg-type]


def answer(
    challenge: str, *, password: str = "secret", nc: int = 1, method: str = "INVITE", uri: str = URI
) -> Credentials:
    value = authorization_for([challenge], method, uri, "alice", password, cnonce="c0ffee", nc=nc)
    assert value is not None
    found = Credentials.parse(value)
    assert found is not None
    return found


def test_vectors_of_rfc_7616() -> None:
    user, realm, password = "Mufasa", "http-auth@example.org", "Circle of Life"
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    expected = {
        MD5: "8ca523f5e9506fed4657c9700eebdbec",
        SHA256: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    }
    for algorithm, response in expected.items():
        hashed = ha1(user, realm, password, algorithm)
        got = digest_response(
            algorithm, hashed, "GET", "/dir/index.html", nonce, qop="auth", nc="00000001", cnonce=cnonce
        )
        assert got == response


def test_vectors_of_rfc_2617_and_2069() -> None:
    hashed = ha1("Mufasa", "testrealm@host.com", "Circle Of Life")
    assert hashed == "939e7578ed9e3c518a452acee763bce9"
    nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    got = digest_response(MD5, hashed, "GET", "/dir/index.html", nonce, qop="auth", nc="00000001", cnonce="0a4f113b")
    assert got == "6629fae49393a05397450978507c4ef1"
    # RFC 2069's example with its erratum (749): the same without qop
    hashed = ha1("Mufasa", "testrealm@host.com", "CircleOfLife")
    assert digest_response(MD5, hashed, "GET", "/dir/index.html", nonce) == "1949323746fe6a43ef61f9606e7febea"


def test_client_answers_the_challenge_of_rfc_7616() -> None:
    tail = (
        'realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    values = ["Digest " + tail.format("SHA-256"), "Digest " + tail.format("MD5")]
    got = authorization_for(
        values, "GET", "/dir/index.html", "Mufasa", "Circle of Life",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )  # fmt: skip
    assert got is not None
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in got
    assert "algorithm=SHA-256" in got and 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in got
    assert "nc=00000001" in got and "qop=auth," in got


def test_client_md5_sess_hashes_the_nonce_in() -> None:
    import hashlib

    inner = hashlib.md5(b"bob:r:pw").hexdigest()
    a1 = hashlib.md5(f"{inner}:n:c".encode()).hexdigest()
    a2 = hashlib.md5(b"BYE:sip:x@y").hexdigest()
    expected = hashlib.md5(f"{a1}:n:00000002:c:auth:{a2}".encode()).hexdigest()
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5-sess'
    got = authorization_for([challenge], "BYE", "sip:x@y", "bob", "pw", cnonce="c", nc=2)
    assert got is not None and expected in got and "algorithm=MD5-sess" in got


@pytest.mark.parametrize(
    "challenges",
    [
        [],
        ['Basic realm="x"'],
        ['Digest realm="x", nonce="n", algorithm=SHA-512-256'],
        ['Digest realm="x", nonce="n", qop="auth-int"'],
        ["Digest realm="],
    ],
)
def test_client_gives_up_on_what_it_cannot_do(challenges: list[str]) -> None:
    assert authorization_for(challenges, "INVITE", URI, "alice", "secret", cnonce="c") is None


def test_client_takes_a_stored_ha1_for_the_password() -> None:
    gate = server()
    for challenge in gate.challenges(0, "e"):
        one = authorization_for([challenge], "INVITE", URI, "alice", "secret", cnonce="c")
        assert one == authorization_for([challenge], "INVITE", URI, "alice", cnonce="c", stored=STORED)


def test_two_challenges_sha_256_first() -> None:
    first, second = (Challenge.parse(text) for text in server().challenges(10, "e1"))
    assert first is not None and second is not None
    assert (first.algorithm, second.algorithm) == (SHA256, MD5)
    assert first.nonce == second.nonce and first.qops == ("auth",) and not first.stale
    stale = [Challenge.parse(text) for text in server().challenges(10, "e1", stale=True)]
    assert all(c is not None and c.stale for c in stale)


@pytest.mark.parametrize("which", [0, 1])
def test_right_password_gets_in_by_either_algorithm(which: int) -> None:
    gate = server()
    found = answer(gate.challenges(100, "e")[which])
    assert gate.verify(found, "INVITE", URI, STORED, 101) is Verdict.OK


def test_wrong_password_unknown_user_and_wrong_method_fail_alike() -> None:
    gate = server()
    challenge = gate.challenges(100, "e")[0]
    assert gate.verify(answer(challenge, password="guess"), "INVITE", URI, STORED, 101) is Verdict.FAILED
    assert gate.verify(answer(challenge), "INVITE", URI, None, 101) is Verdict.FAILED
    assert gate.verify(answer(challenge), "REGISTER", URI, STORED, 101) is Verdict.FAILED
    assert gate.verify(answer(challenge), "INVITE", "sip:+19005550100@gw.example.com", STORED, 101) is Verdict.FAILED
    # none of them used the nonce up
    assert gate.verify(answer(challenge), "INVITE", URI, STORED, 101) is Verdict.OK


def test_a_nonce_count_serves_once() -> None:
    gate = server()
    challenge = gate.challenges(100, "e")[0]
    assert gate.verify(answer(challenge), "INVITE", URI, STORED, 101) is Verdict.OK
    assert gate.verify(answer(challenge), "INVITE", URI, STORED, 101) is Verdict.STALE
    assert gate.verify(answer(challenge, nc=3), "INVITE", URI, STORED, 101) is Verdict.OK
    assert gate.verify(answer(challenge, nc=2), "INVITE", URI, STORED, 101) is Verdict.STALE


def test_without_qop_a_nonce_serves_once() -> None:
    gate = server()
    challenge = gate.challenges(100, "e")[1].replace('qop="auth", ', "")
    found = answer(challenge)
    assert found.qop == ""
    assert gate.verify(found, "INVITE", URI, STORED, 101) is Verdict.OK
    assert gate.verify(found, "INVITE", URI, STORED, 101) is Verdict.STALE


def test_an_old_nonce_is_stale_with_the_right_password_only() -> None:
    gate = server(nonce_seconds=60)
    challenge = gate.challenges(100, "e")[0]
    assert gate.verify(answer(challenge), "INVITE", URI, STORED, 161) is Verdict.STALE
    assert gate.verify(answer(challenge, password="guess"), "INVITE", URI, STORED, 161) is Verdict.FAILED
    assert gate.verify(answer(challenge), "INVITE", URI, STORED, 160) is Verdict.OK


@pytest.mark.parametrize("nonce", ["", "..", "64.e.00", "x.y.z", "64.e." + "0" * 32, "é.é.é", "9" * 3000])
def test_foreign_nonces_fail(nonce: str) -> None:
    gate = server()
    text = f'Digest realm="{REALM}", nonce="{nonce}", qop="auth", algorithm=SHA-256'
    assert gate.verify(answer(text), "INVITE", URI, STORED, 1) is Verdict.FAILED


def test_nonces_of_another_secret_or_realm_fail() -> None:
    for other in (DigestServer(REALM, b"x" * 16), DigestServer("other", SECRET)):
        nonce = other.nonce(100, "e")
        text = f'Digest realm="{REALM}", nonce="{nonce}", qop="auth", algorithm=SHA-256'
        assert server().verify(answer(text), "INVITE", URI, STORED, 100) is Verdict.FAILED


def test_memory_is_bounded_and_what_falls_out_cannot_be_replayed() -> None:
    gate = server(max_nonces=4)
    seen = []
    for index in range(20):
        found = answer(gate.challenges(100 + index, f"e{index}")[0])
        assert gate.verify(found, "INVITE", URI, STORED, 100 + index) is Verdict.OK
        seen.append(found)
    assert len(gate._counts) == 4
    assert {gate.verify(found, "INVITE", URI, STORED, 120) for found in seen} == {Verdict.STALE}


def test_what_was_not_offered_fails() -> None:
    gate = server()
    challenge = gate.challenges(100, "e")[0]
    good = authorization_for([challenge], "INVITE", URI, "alice", "secret", cnonce="c")
    assert good is not None
    for wrong in (
        good.replace("SHA-256", "SHA-512-256"),
        good.replace("SHA-256", "SHA-256-sess"),
        good.replace("qop=auth", "qop=auth-int"),
        good.replace("nc=00000001", "nc=1x"),
        good.replace(gate.opaque, "0" * 16),
        good.replace("SHA-256", "MD5"),
    ):
        found = Credentials.parse(wrong)
        assert found is not None and gate.verify(found, "INVITE", URI, STORED, 100) is Verdict.FAILED
    found = Credentials.parse(good)
    assert found is not None and gate.verify(found, "INVITE", URI, STORED, 100) is Verdict.OK


def test_credentials_are_looked_for_by_realm() -> None:
    gate = server()
    good = authorization_for([gate.challenges(1, "e")[0]], "INVITE", URI, "alice", "secret", cnonce="c")
    assert good is not None
    other = good.replace(REALM, "elsewhere")
    found = gate.credentials(["Basic abc", other, good])
    assert found is not None and found.user == "alice"
    assert gate.credentials([other]) is None and gate.credentials([]) is None


@pytest.mark.parametrize(
    ("digest_uri", "request_uri", "same"),
    [
        ("sip:gw.example.com", "sip:gw.example.com:5060;transport=udp", True),
        ("sip:bob@GW.example.com", "sip:bob@gw.example.com", True),
        ("sip:gw.example.com", "sip:bob@gw.example.com", True),
        ("sips:bob@gw.example.com", "sip:bob@gw.example.com", True),
        ("sip:carol@gw.example.com", "sip:bob@gw.example.com", False),
        ("sip:bob@evil.example", "sip:bob@gw.example.com", False),
        ("/dir/index.html", "sip:bob@gw.example.com", False),
        ("urn:service:sos", "urn:service:sos", True),
    ],
)
def test_targets_are_compared_as_phones_write_them(digest_uri: str, request_uri: str, same: bool) -> None:
    assert same_target(digest_uri, request_uri) is same


def test_parameters_are_parsed_as_they_come() -> None:
    text = 'dIgEsT  REALM = "a, \\"b\\" \\\\c" ,nonce=abc,\tUri="sip:x@y;p=1,2",, response="F0"'
    assert parse_digest_params(text.replace(",,", ",")) == {
        "realm": 'a, "b" \\c', "nonce": "abc", "uri": "sip:x@y;p=1,2", "response": "F0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "Digest", "Basic Zm9v", 'Digest realm="open', "Digest realm", 'Digest a="1" b="2"', 'Digest a="1", a="2"',
        'Digest username="u", realm="r", nonce="n", uri="sip:x"', "Digest " + "a" * 5000, "Digest =,=,=",
    ],
)  # fmt: skip
def test_bad_credentials_are_none(text: str) -> None:
    assert Credentials.parse(text) is None


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_no_text_raises(text: str) -> None:
    for value in (text, f"Digest {text}", f'Digest username="a", realm="{REALM}", nonce="n", uri="u", response={text}'):
        found = Credentials.parse(value)
        Challenge.parse(value)
        if found is not None:
            assert server().verify(found, "INVITE", URI, STORED, 1) is Verdict.FAILED


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_quoting_is_undone_by_parsing(text: str) -> None:
    assert parse_digest_params(f"Digest a={quoted(text)}") == {"a": text}


@settings(max_examples=100, deadline=None)
@given(
    username=st.text(
        alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]), min_size=1
    ),
    password=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30),
    which=st.sampled_from([0, 1]),
)
def test_both_ends_agree_for_any_name_and_password(username: str, password: str, which: int) -> None:
    gate = server()
    value = authorization_for([gate.challenges(5, "e")[which]], "REGISTER", "sip:x", username, password, cnonce="c")
    found = gate.credentials([value or ""])
    assert found is not None and found.user == username
    stored = Ha1Pair(ha1(username, REALM, password), ha1(username, REALM, password, SHA256))
    assert gate.verify(found, "REGISTER", "sip:x", stored, 6) is Verdict.OK


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        DigestServer(REALM, b"short")
    with pytest.raises(ValueError, match="algorithm"):
        ha1("a", "b", "c", "SHA-1")


def test_nonces_show_nothing_but_their_making() -> None:
    assert re.fullmatch(r"9n8\.abc123\.[-_0-9A-Za-z]{12}", server().nonce(12.5, "abc123"))
