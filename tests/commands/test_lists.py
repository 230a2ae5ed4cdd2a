"""``twoparty list``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture
def twoparty(tmp_path: Path) -> CommandLine:
    command = CommandLine(tmp_path)
    command("organization", "add", "acme")
    return command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("name,Number,STATE\nAnn,603-555-0100,NH\nBob,(415) 555-0100,California\n")
    return path


def test_import_show_count(twoparty: CommandLine, file: Path) -> None:
    said = twoparty("list", "import", str(file)).stdout
    assert said == "2 rows imported into the list of acme\n"
    assert twoparty.json("list", "show", "+1 415 555 0100") == {"acme": "US-CA"}
    assert "US-NH" in twoparty("list", "show", "6035550100").stdout
    assert twoparty.json("list", "count") == {"acme": 2}
    assert "2" in twoparty("list", "count", "-o", "acme").stdout
    assert twoparty.error("list", "show", "6035550199", code=1) == "6035550199 is on no list"


def test_bad_row_leaves_everything_as_it_was(twoparty: CommandLine, file: Path) -> None:
    twoparty("list", "import", str(file))
    file.write_text("number,state\n6035550101,VT\n12,VT\n6035550102,Narnia\n")
    result = twoparty("list", "import", str(file), "--replace", code=2)
    assert result.stderr.splitlines() == [
        f"{file}: line 3: number: '12' is not a telephone number",
        f"{file}: line 4: state: 'Narnia' is not a state",
        f"twoparty: {file}: nothing imported, 2 of 3 rows are bad (--skip-bad leaves them out)",
    ]
    assert twoparty.json("list", "count") == {"acme": 2}


def test_skip_bad_keeps_the_good_ones(twoparty: CommandLine, file: Path) -> None:
    file.write_text("number,state\n6035550101,VT\n" + "x,VT\n" * 50)
    result = twoparty("list", "import", str(file), "--skip-bad")
    assert result.stdout == "1 rows imported into the list of acme, 50 bad ones left out\n"
    assert result.stderr.splitlines()[-1] == f"{file}: and 30 bad rows more"


def test_replace(twoparty: CommandLine, file: Path) -> None:
    twoparty("list", "import", str(file))
    file.write_text("number,state\n6035550101,VT\n")
    twoparty("list", "import", str(file), "--replace")
    assert twoparty.json("list", "count") == {"acme": 1}


def test_errors(twoparty: CommandLine, file: Path, tmp_path: Path) -> None:
    assert "No such file" in twoparty.error("list", "import", str(tmp_path / "none.csv"))
    assert "Is a directory" in twoparty.error("list", "import", str(tmp_path))
    assert "twoparty organization add other" in twoparty.error("list", "import", str(file), "-o", "other")
    assert twoparty.error("list", "show", "abc") == "'abc' is not a telephone number"
    file.write_text("a,b\n")
    assert "no column 'number'" in twoparty.error("list", "import", str(file))
