"""``twoparty policy``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture
def twoparty(tmp_path: Path) -> CommandLine:
    command = CommandLine(tmp_path)
    command("organization", "add", "acme")
    return command


def _settings(twoparty: CommandLine) -> Any:
    return twoparty.json("policy", "show")["settings"]


def test_defaults_are_version_0(twoparty: CommandLine) -> None:
    shown = twoparty.json("policy", "show")
    assert (shown["organization"], shown["version"]) == ("acme", 0)
    assert (shown["settings"]["recording_enabled"], shown["settings"]["location_basis"]) == (True, "area_code")
    assert "area_code" in twoparty("policy", "show").stdout


def test_change_is_told_and_is_a_new_version(twoparty: CommandLine) -> None:
    said = twoparty("policy", "set", "location_basis", "state").stdout
    assert said.splitlines() == ["acme: location_basis: area_code -> state", "acme: version 1 is in force"]
    assert "no change" in twoparty("policy", "set", "location_basis", "state").stdout
    said = twoparty("policy", "set", "never_record.states", "NH, california").stdout
    assert "acme: never_record.states: (none) -> US-CA, US-NH" in said
    assert twoparty.json("policy", "show")["version"] == 2
    assert twoparty.json("policy", "show", "--version", "1")["settings"]["never_record.states"] == []
    versions = twoparty.json("policy", "versions")
    assert [v["version"] for v in versions] == [2, 1]
    assert versions[1]["changes"] == ["location_basis: area_code -> state"]
    assert "never_record.states: (none) -> US-CA, US-NH" in twoparty("policy", "versions").stdout


def test_toggle_with_an_empty_set_is_pending_and_clearing_switches_it_off(twoparty: CommandLine) -> None:
    twoparty("policy", "set", "never_record.enabled", "on")
    assert not _settings(twoparty)["never_record.enabled"]
    assert "pending" in twoparty("policy", "show").stdout
    twoparty("policy", "set", "never_record.states", "US-NH")
    assert _settings(twoparty)["never_record.enabled"]
    said = twoparty("policy", "set", "never_record.states", "").stdout
    assert "never_record.enabled: on -> off" in said
    assert not _settings(twoparty)["never_record.enabled"]


def test_hidden_rule_can_not_be_chosen(twoparty: CommandLine) -> None:
    twoparty("policy", "set", "agent_side_only", "on")
    assert "cannot be chosen while" in twoparty.error("policy", "set", "two_party_rule", "user")
    assert "hidden" in twoparty("policy", "show").stdout
    assert twoparty.json("policy", "show")["version"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("location_bases", "state"), "location_bases: no such setting (there are: agent_side_only, allowed_countries"),
        (("location_basis", "moon"), "location_basis: 'moon' is none of state, area_code"),
        (("recording_enabled", "maybe"), "recording_enabled: 'maybe' is neither on nor off"),
        (("never_record.states", "US-NH,Atlantis"), "never_record.states: 'Atlantis' is not a state or province"),
        (("location_basis",), "say SETTING and VALUE"),
        ((), "say SETTING and VALUE"),
        (("location_basis", "state", "--organization", "other"), "there is no organization other"),
    ],
)
def test_errors(twoparty: CommandLine, words: tuple[str, ...], said: str) -> None:
    assert twoparty.error("policy", "set", *words).startswith(said)
    assert twoparty.json("policy", "show")["version"] == 0


def test_file_replaces_all_settings(twoparty: CommandLine, tmp_path: Path) -> None:
    twoparty("policy", "set", "inbound_enabled", "on")
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"location_basis": "state", "international": {"enabled": True}}))
    twoparty("policy", "set", "--file", str(file))
    settings = _settings(twoparty)
    assert (settings["location_basis"], settings["inbound_enabled"]) == ("state", False)
    assert (settings["international.enabled"], settings["international.pending"]) == (False, True)


def test_what_show_prints_can_be_set_again(twoparty: CommandLine, tmp_path: Path) -> None:
    for change in (("allowed_countries", "GB,FR"), ("international.countries", "GB"), ("two_party_rule", "user")):
        twoparty("policy", "set", *change)
    before = _settings(twoparty)
    (tmp_path / "policy.json").write_text(json.dumps(before))
    twoparty("policy", "set", "agent_side_only", "on")
    twoparty("policy", "set", "-f", str(tmp_path / "policy.json"))
    assert _settings(twoparty) == before


@pytest.mark.parametrize(
    ("content", "said"), [("{", "not JSON"), ("[]", "must be an object"), ('{"x": 1}', "x: no such setting")]
)
def test_bad_file(twoparty: CommandLine, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "policy.json"
    file.write_text(content)
    error = twoparty.error("policy", "set", "--file", str(file))
    assert error.startswith(f"{file}: ")
    assert said in error


def test_organization_is_demanded_when_there_are_several(twoparty: CommandLine) -> None:
    twoparty("organization", "add", "other")
    assert twoparty.error("policy", "show") == "--organization: say which one: acme, other"
    assert twoparty.json("policy", "show", "-o", "other")["organization"] == "other"


def test_there_is_no_organization_yet(tmp_path: Path) -> None:
    assert "twoparty organization add" in CommandLine(tmp_path).error("policy", "show")


def test_version_that_is_not_there(twoparty: CommandLine) -> None:
    assert twoparty.error("policy", "show", "--version", "7") == "acme has no policy version 7"
