"""``twoparty decide`` as a shell calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from gateway.commands import decide

NEW_YORK = {"direction": "outbound", "prospect_number": "+12125550123", "user_country": "US", "user_state": "TX"}
CALIFORNIA = {**NEW_YORK, "prospect_number": "(415) 555-0123"}
INBOUND = {**NEW_YORK, "direction": "inbound"}


def run(*words: str, code: int = 0, stdin: str = "") -> Result:
    root = typer.Typer()
    root.command("other")(lambda: None)
    decide.register(root)
    result = CliRunner(env={"COLUMNS": "200"}).invoke(root, ["decide", *words], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    policy, facts = tmp_path / "policy.json", tmp_path / "facts.jsonl"
    policy.write_text("{}")
    facts.write_text("".join(json.dumps(one) + "\n" for one in (NEW_YORK, CALIFORNIA, INBOUND)))
    return policy, facts


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_answer_a_line_in_the_order_of_the_facts(files: tuple[Path, Path]) -> None:
    policy, facts = files
    found = answers(run("--policy", str(policy), "--facts", str(facts)).stdout)
    assert [(one["mode"], one["reason"], one["rule"]) for one in found] == [
        ("both", "one_party", 12),
        ("agent_only", "prospect_two_party", 12),
        ("none", "inbound_not_covered", 2),
    ]
    assert [step["rule"] for step in found[2]["trace"]] == [1, 2]
    assert {"policy_version", "jurisdictions_version", "locations", "time"} <= set(found[0])
    assert found[1]["locations"]["prospect_number"] == "+14155550123"


def test_the_policy_has_the_names_of_the_settings(files: tuple[Path, Path]) -> None:
    policy, facts = files
    policy.write_text(
        json.dumps({"inbound_enabled": True, "never_record": {"enabled": True, "states": ["California"]}})
    )
    found = answers(run("--policy", str(policy), "--facts", str(facts)).stdout)
    assert [one["reason"] for one in found] == ["one_party", "never_record_state", "one_party"]


def test_the_law_as_of_a_day(files: tuple[Path, Path]) -> None:
    policy, facts = files
    found = answers(run("--policy", str(policy), "--facts", str(facts), "--as-of", "1850-01-01").stdout)
    assert found[0]["mode"] == "agent_only"
    assert "no-day" in run("--policy", str(policy), "--facts", str(facts), "--as-of", "no-day", code=2).stderr


def test_facts_from_a_pipe_and_empty_lines(files: tuple[Path, Path]) -> None:
    policy, _ = files
    text = f"\n{json.dumps(NEW_YORK)}\n\n   \n{json.dumps(CALIFORNIA)}"
    assert len(answers(run("--policy", str(policy), "--facts", "-", stdin=text).stdout)) == 2
    assert run("--policy", str(policy), "--facts", "-", stdin="").stdout == ""


def test_a_summary_counts_by_mode_and_reason(files: tuple[Path, Path], tmp_path: Path) -> None:
    policy, facts = files
    out = tmp_path / "out.jsonl"
    result = run("--policy", str(policy), "--facts", str(facts), "-o", str(out), "--summary")
    for word in ("both", "agent_only", "none", "one_party", "prospect_two_party", "inbound_not_covered"):
        assert word in result.stdout
    assert len(answers(out.read_text())) == 3
    plain = run("--policy", str(policy), "--facts", str(facts), "--summary")
    assert len(answers(plain.stdout)) == 3, "the table is on stderr while answers are on stdout"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"direction": "sideways", "prospect_number": "1"}', "facts.jsonl:2: direction: 'sideways'"),
        ('{"direction": "outbound"}', "facts.jsonl:2: prospect_number: missing"),
        ('{"direction": "outbound", "prospect_number": 5}', "facts.jsonl:2: prospect_number: must be a text"),
        ('{"direction": "outbound", "prospect_number": "1", "state": "TX"}', "facts.jsonl:2: state: no such fact"),
        ('{"direction": "outbound", "direction": "inbound"}', "facts.jsonl:2: direction: given twice"),
        ("{", "facts.jsonl:2: not JSON"),
        ("[]", "facts.jsonl:2: not a JSON object"),
        ("[" * 100_000, "facts.jsonl:2: not JSON"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(files: tuple[Path, Path], line: str, message: str) -> None:
    policy, facts = files
    facts.write_text(f"{json.dumps(NEW_YORK)}\n{line}\n{json.dumps(NEW_YORK)}\n")
    out = facts.with_name("out.jsonl")
    result = run("--policy", str(policy), "--facts", str(facts), "-o", str(out), code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in facts.parent.iterdir()) == ["facts.jsonl", "policy.json"]
    assert run("--policy", str(policy), "--facts", str(facts), code=2).stdout == ""


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ('{\n "recording": true}', "policy.json:2: recording: no such setting"),
        ('{"never_record": {\n\n"states": ["Bavaria"]}}', "policy.json:3: never_record.states: 'Bavaria'"),
        ("[]", "policy.json: not a JSON object"),
        ("", "policy.json: not JSON"),
    ],
)
def test_a_bad_policy_is_named(files: tuple[Path, Path], policy: str, message: str) -> None:
    files[0].write_text(policy)
    assert message in run("--policy", str(files[0]), "--facts", str(files[1]), code=2).stderr


def test_a_byte_order_mark_is_no_mistake(files: tuple[Path, Path]) -> None:
    for file in files:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    policy, facts = files
    assert len(answers(run("--policy", str(policy), "--facts", str(facts)).stdout)) == 3


def test_half_a_surrogate_pair_comes_out_as_it_came_in(files: tuple[Path, Path], tmp_path: Path) -> None:
    policy, facts = files
    policy.write_text('{"version": "\\ud800"}')
    out = tmp_path / "out.jsonl"
    run("--policy", str(policy), "--facts", str(facts), "--output", str(out))
    found = answers(out.read_text("utf-8"))
    assert [one["policy_version"] for one in found] == ["\ud800"] * 3
    assert answers(run("--policy", str(policy), "--facts", str(facts)).stdout) == found


def test_files_that_are_not_there(files: tuple[Path, Path], tmp_path: Path) -> None:
    policy, facts = map(str, files)
    nowhere = str(tmp_path / "no" / "x")
    assert "No such file" in run("--policy", nowhere, "--facts", facts, code=2).stderr
    assert "No such file" in run("--policy", policy, "--facts", nowhere, code=2).stderr
    assert "No such file" in run("--policy", policy, "--facts", facts, "-o", nowhere, code=2).stderr


def test_a_device_is_written_to_and_not_replaced(files: tuple[Path, Path]) -> None:
    run("--policy", str(files[0]), "--facts", str(files[1]), "-o", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_an_output_that_was_there_is_replaced_whole(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old\n" * 1000)
    run("--policy", str(files[0]), "--facts", str(files[1]), "-o", str(out))
    assert len(answers(out.read_text())) == 3


def test_a_long_list_keeps_its_order(files: tuple[Path, Path]) -> None:
    policy, facts = files
    numbers = [f"+1212{line:07d}" for line in range(2_000_000, 2_005_000)]
    facts.write_text("".join(json.dumps({**NEW_YORK, "prospect_number": number}) + "\n" for number in numbers))
    found = answers(run("--policy", str(policy), "--facts", str(facts)).stdout)
    assert [one["locations"]["prospect_number"] for one in found] == numbers
