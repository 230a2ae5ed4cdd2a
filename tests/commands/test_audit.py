"""``twoparty audit``: recordings and audit log."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture
def twoparty(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_the_audit_log_of_the_store(twoparty: CommandLine, tmp_path: Path) -> None:
    twoparty("organization", "add", "acme")
    twoparty("policy", "set", "inbound_enabled", "on")
    assert "audit log of acme: intact, 2 entries" in twoparty("audit").stdout
    [database] = tmp_path.rglob("*.db")
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TRIGGER audit_log_update")
        connection.execute("UPDATE audit_log SET actor = 'nobody' WHERE sequence = 2")
    assert "audit log of acme: entry 2: its content was changed" in twoparty("audit", code=1).stdout
    told = json.loads(twoparty("audit", "--json", code=1).stdout)
    assert told["audit_log"]["acme"]["broken"]["sequence"] == 2


def test_an_exported_log(twoparty: CommandLine, tmp_path: Path) -> None:
    entry = {"organization": "acme", "sequence": 1, "previous": "0" * 64, "hash": "wrong"}
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(entry) + "\n")
    assert "acme: entry 1: its content was changed" in twoparty("audit", "--log", str(file), code=1).stdout
    file.write_text("nonsense\n")
    assert "not JSON lines" in twoparty("audit", "--log", str(file), code=2).stderr
    assert "No such file" in twoparty("audit", "--log", str(tmp_path / "no"), code=2).stderr
    twoparty("audit", str(tmp_path), "--log", str(file), code=2)
    twoparty("audit", str(tmp_path / "no"), code=2)


def test_the_first_admin_of_the_page(twoparty: CommandLine) -> None:
    added = twoparty(
        "user", "add", "boss", "-o", "acme", "--role", "admin", "--no-password", "--web-password-stdin",
        "--create-organization", stdin="correct horse battery\n",
    )  # fmt: skip
    assert "boss added to acme" in added.stdout
    assert json.loads(twoparty("user", "list", "--json").stdout)[0]["web_login"] is True
    assert "at least 12" in twoparty("user", "login", "boss", "--password-stdin", stdin="short\n", code=2).stderr
    twoparty("user", "login", "boss", "--password-stdin", stdin="another good long one\n")
    twoparty("user", "login", "boss", "--remove")
    assert json.loads(twoparty("user", "list", "--json").stdout)[0]["web_login"] is False
    assert "manager's" in twoparty("user", "set", "boss", "--admin-rights", code=2).stderr
    twoparty("user", "set", "boss", "--role", "manager", "--admin-rights")
    assert json.loads(twoparty("user", "list", "--json").stdout)[0]["admin_rights"] is True
    twoparty("user", "set", "boss", "--role", "agent")
    assert json.loads(twoparty("user", "list", "--json").stdout)[0]["admin_rights"] is False
