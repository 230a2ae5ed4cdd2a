"""``twoparty organization`` and ``twoparty user``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from gateway.store.store import Store
from tests.support.command_line import CommandLine


@pytest.fixture
def twoparty(tmp_path: Path) -> CommandLine:
    command = CommandLine(tmp_path)
    command("organization", "add", "acme", "--name", "Acme Inc.")
    return command


def _add(twoparty: CommandLine, *words: str, password: str = "secret\n") -> None:
    twoparty("user", "add", *words, "--password-stdin", stdin=password)


def _user(twoparty: CommandLine, username: str = "alice") -> Any:
    [found] = [user for user in twoparty.json("user", "list") if user["username"] == username]
    return found


def test_organizations(twoparty: CommandLine) -> None:
    _add(twoparty, "bob", "-o", "other", "--create-organization")
    assert [(o["slug"], o["name"], o["users"]) for o in twoparty.json("organization", "list")] == [
        ("acme", "Acme Inc.", 0),
        ("other", "other", 1),
    ]
    assert "Acme Inc." in twoparty("organization", "list").stdout
    assert twoparty.error("organization", "add", "acme") == "there is an organization acme already"
    assert "is not a slug" in twoparty.error("organization", "add", "Acme Inc")
    assert "is not a slug" in twoparty.error("organization", "add", "../etc")


def test_user_is_added_with_everything(twoparty: CommandLine) -> None:
    _add(twoparty, "alice", "-o", "acme", "--country", "us", "--state", "new hampshire", "--did", "603-555-0100",
         "--did", "+442079460000", "--display-name", "Alice A.", "--role", "manager")  # fmt: skip
    user = _user(twoparty)
    assert (user["country"], user["state"], user["role"], user["realm"]) == ("US", "US-NH", "manager", "twoparty")
    assert user["dids"] == ["+16035550100", "+442079460000"]
    assert "Alice A." in twoparty("user", "list", "-o", "acme").stdout
    assert twoparty.json("user", "list", "-o", "other") == []


def test_password_is_kept_as_digests_alone(twoparty: CommandLine, tmp_path: Path) -> None:
    _add(twoparty, "alice", "-o", "acme", password="correct horse zoë\r\n")

    async def look(store: Store) -> None:
        credential = await store.directory.credential("alice")
        assert credential is not None
        text = "alice:twoparty:correct horse zoë".encode()
        assert credential.ha1_md5 == hashlib.md5(text).hexdigest()
        assert credential.ha1_sha256 == hashlib.sha256(text).hexdigest()

    twoparty.store(look)
    for file in tmp_path.iterdir():
        assert b"correct horse" not in file.read_bytes()


def test_state_alone_says_the_country(twoparty: CommandLine) -> None:
    _add(twoparty, "alice", "-o", "acme", "--state", "ON")
    assert (_user(twoparty)["country"], _user(twoparty)["state"]) == ("CA", "CA-ON")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--state", "Atlantis"), "--state: 'Atlantis' is not a US state"),
        (("--country", "USSR"), "--country: 'USSR' is not an ISO 3166 country code"),
        (("--country", "PR"), "--country: PR is a territory of the United States: --country US --state US-PR"),
        (("--country", "CA", "--state", "NH"), "--state: US-NH is not in CA"),
        (("--did", "911"), "'911' is not a telephone number"),
        (("--role", "king"), "role: 'king' is none of agent, manager, admin, support"),
    ],
)
def test_what_is_not_understood_names_its_option(twoparty: CommandLine, words: tuple[str, ...], said: str) -> None:
    error = twoparty.error("user", "add", "alice", "-o", "acme", "--password-stdin", *words, stdin="x\n")
    assert error.startswith(said)
    assert twoparty.json("user", "list") == []


def test_errors_say_what_to_do(twoparty: CommandLine) -> None:
    _add(twoparty, "alice", "-o", "acme", "--did", "6035550100")
    add = "user", "add", "bob", "-o"
    assert "twoparty organization add nowhere" in twoparty.error(*add, "nowhere", "--no-password")
    assert "twoparty user set alice" in twoparty.error("user", "add", "alice", "-o", "acme", "--no-password")
    assert twoparty.error(*add, "acme", "--no-password", "--did", "16035550100") == "+16035550100 is a DID of alice"
    assert "--password-stdin" in twoparty.error(*add, "acme")
    assert "empty" in twoparty.error(*add, "acme", "--password-stdin", stdin="\n")
    assert "can't be a user name" in twoparty.error("user", "add", "a b", "-o", "acme", "--no-password")
    assert [user["username"] for user in twoparty.json("user", "list")] == ["alice"]


def test_set_changes_what_is_given_and_nothing_else(twoparty: CommandLine) -> None:
    _add(twoparty, "alice", "-o", "acme", "--state", "NH", "--did", "6035550100", "--display-name", "Alice")
    before = _user(twoparty)
    twoparty("user", "set", "alice", "--state", "MA")
    twoparty("user", "set", "alice", "--did", "6175550100", "--remove-did", "6035550100")
    twoparty("user", "set", "alice", "--disabled")
    assert _user(twoparty) == {**before, "state": "US-MA", "dids": ["+16175550100"], "enabled": False}
    twoparty("user", "set", "alice", "--enabled", "--country", "", "--state", "")
    assert _user(twoparty) == {**before, "dids": ["+16175550100"], "country": None, "state": None}


def test_set_password(twoparty: CommandLine) -> None:
    twoparty("user", "add", "alice", "-o", "acme", "--no-password")
    assert _user(twoparty)["realm"] is None
    twoparty("user", "set", "alice", "--password-stdin", stdin="new\n")
    assert _user(twoparty)["realm"] == "twoparty"


def test_set_errors(twoparty: CommandLine) -> None:
    _add(twoparty, "alice", "-o", "acme", "--state", "NH")
    assert twoparty.error("user", "set", "bob", "--disabled") == "there is no user bob"
    assert twoparty.error("user", "set", "alice", "--remove-did", "6035550100") == "+16035550100 is not a DID of alice"
    assert twoparty.error("user", "set", "alice", "--country", "CA").startswith("--country: US-NH is not in CA")
    assert twoparty.error("user", "set", "alice", "--state", "ON").startswith("--state: CA-ON is not in US")


def test_database_that_can_not_be_opened(twoparty: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"nonsense" * 1000)
    assert "not a database" in twoparty.error("user", "list")
