"""Dialing lists from CSV files: what is taken, what is named as bad, and what a million rows cost."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.consent.places import locate
from gateway.store.errors import NotFound, StoreError
from gateway.store.lists import Import, check
from gateway.store.numbers import e164
from gateway.store.store import Store
from scripts.bench_decide import reference_data

STATES = {"nh": "US-NH", "ca": "US-CA", "new hampshire": "US-NH", "us-nh": "US-NH"}


def _region(text: str) -> str | None:
    return STATES.get(text.lower())


def _check(path: Path, content: str | bytes) -> tuple[Import, list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    spool = io.StringIO()
    found = check(path, _region, spool, lambda _: None)
    return found, spool.getvalue().split("\n")[:-1]


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


@pytest.mark.parametrize(
    "content",
    [
        "number,state\n6035550100,NH\n(415) 555-0100,CA\n",
        "\ufeffNumber;Name;STATE\r\n6035550100;Ann;nh\r\n+1 415 555 0100;;ca\r\n",
        'state\tx\tnumber\nNew Hampshire\t"a\tb"\t1-603-555-0100\n\nca\t\t415.555.0100',
        "state|number\nUS-NH|+16035550100\nCA|4155550100\n",
    ],
    ids=["comma", "semicolon, BOM, CRLF", "tab, empty line, no last newline", "bar"],
)
def test_forms_of_a_list(csv_file: Path, content: str) -> None:
    found, rows = _check(csv_file, content)
    assert (found.good, found.bad) == (2, 0)
    assert rows == ["+16035550100\tUS-NH", "+14155550100\tUS-CA"]


def test_bad_rows_are_named_by_line_and_column(csv_file: Path) -> None:
    found, rows = _check(
        csv_file, 'number,state\n6035550100,NH\n12,NH\n6035550101,Atlantis\n,NH\n6035550102,\n6035550103\n"6\n7",NH\n'
    )
    assert [str(row) for row in found.named] == [
        "line 3: number: '12' is not a telephone number",
        "line 4: state: 'Atlantis' is not a state",
        "line 5: number: is empty",
        "line 6: state: is empty",
        "line 7: state: is empty",
        "line 9: number: '6\\n7' is not a telephone number",
    ]
    assert (found.good, found.bad, rows) == (1, 6, ["+16035550100\tUS-NH"])


def test_rows_that_are_no_csv_or_not_utf8_are_named_and_the_others_kept(csv_file: Path) -> None:
    found, rows = _check(
        csv_file,
        b'number,state,name\n6035550100,NH,Ren\xe9\n6035550101,"NH"x,\n6035550102,NH,' + b'"' + b"x" * 200_000
        + b'"\n6035550103,N\xc9,\n\xff12,NH,\n   \n6035550105,NH,\n6035550106,"NH\n6035550107,NH,\n',
    )  # fmt: skip
    assert [str(row) for row in found.named] == [
        "line 3: row: is not CSV: ',' expected after '\"'",
        "line 4: row: is not CSV: field larger than field limit (131072)",
        "line 5: state: b'N\\xc9' is not UTF-8 text",
        "line 6: number: b'\\xff12' is not UTF-8 text",
        "line 9: row: is not CSV: unexpected end of data",
    ]
    assert (found.good, found.bad) == (2, 5)
    assert rows == ["+16035550100\tUS-NH", "+16035550105\tUS-NH"]


def test_number_of_named_rows_is_bounded(csv_file: Path) -> None:
    found, _ = _check(csv_file, "number,state\n" + "x,NH\n" * 1000)
    assert (found.bad, len(found.named)) == (1000, 20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no column 'number'"),
        ("phone,state\n", "line 1: the header has no column 'number' .it has: phone, state"),
        ("number,number,state\n", "more than one column 'number'"),
        ("number,state\n6035550100,NH\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b"num\xffber,state\n", "no column 'number' .it has: num.ber, state"),
        ('"' + "x" * 200_000, "line 1: the header is not CSV: field larger"),
        ("x" * 3_000_000, "line 1: the header is not CSV: field larger"),
    ],
)
def test_file_that_is_no_list(csv_file: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        _check(csv_file, content)


def test_file_that_is_not_there(csv_file: Path) -> None:
    with pytest.raises(StoreError, match=r"list\.csv: No such file"):
        check(csv_file, _region, io.StringIO(), lambda _: None)


async def _store(store: Store, *rows: str, replace: bool = False) -> int:
    return await store.lists.store(
        "acme", io.StringIO("".join(f"{row}\n" for row in rows)), replace=replace, progress=print
    )


async def test_last_row_wins_and_others_stay(store: Store) -> None:
    assert await _store(store, "+16035550100\tUS-NH", "+16035550101\tUS-NH", "+16035550100\tUS-CA") == 3
    await _store(store, "+16035550101\tUS-VT")
    assert await store.lists.show("603-555-0100") == {"acme": "US-CA"}
    assert await store.lists.show("603-555-0101") == {"acme": "US-VT"}
    assert await store.lists.count() == {"acme": 2}


async def test_replace_leaves_only_the_new_ones_and_other_organizations(store: Store) -> None:
    await store.accounts.add_organization("other")
    await store.lists.store("other", io.StringIO("+16035550100\tUS-VT\n"), replace=True, progress=print)
    await _store(store, "+16035550100\tUS-NH")
    await _store(store, "+16035550109\tUS-NH", replace=True)
    assert await store.lists.show("6035550100") == {"other": "US-VT"}
    assert await store.lists.count("acme") == {"acme": 1}


async def test_failure_midway_leaves_what_was_there(store: Store) -> None:
    await _store(store, "+16035550100\tUS-NH")

    def stop(done: int) -> None:
        raise StoreError("stopped")

    with pytest.raises(StoreError, match="stopped"):
        await store.lists.store("acme", io.StringIO("+16035550101\tUS-NH\n"), replace=True, progress=stop)
    assert await store.lists.show("6035550100") == {"acme": "US-NH"}


async def test_unknown_organization(store: Store) -> None:
    with pytest.raises(NotFound, match="twoparty organization add nobody"):
        await store.lists.store("nobody", io.StringIO(""), replace=False, progress=print)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("6035550100", "+16035550100"),
        ("+1 (603) 555-0100", "+16035550100"),
        ("+442079460000", "+442079460000"),
        ("442079460000", "+442079460000"),
        ("+4722222222", "+4722222222"),
        ("+4155550123", None),
        ("911", None),
        ("5550100", None),
        ("", None),
        ("anonymous", None),
        ("6" * 40, None),
    ],
)
def test_numbers(written: str, read: str | None) -> None:
    assert e164(written) == read


@given(st.text(alphabet="0123456789+-() .x", max_size=20))
def test_a_number_that_was_read_reads_the_same_again(text: str) -> None:
    found = e164(text)
    # outside +1 it is phonenumbers that reads, and it strips some national prefixes once more
    assert found is None or not found.startswith("+1") or e164(found) == found


CODES = reference_data().area_codes


@given(st.sampled_from(["", "+", "+1", "1", "tel:+1", "+4", "011"]), st.text(alphabet="0123456789", max_size=12))
def test_a_number_is_the_same_to_the_list_as_to_the_decision(start: str, digits: str) -> None:
    decided_on = locate(start + digits, CODES).e164
    assert decided_on is None or e164(start + digits) == decided_on


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_none(text: str) -> None:
    found = e164(text)
    assert found is None or (found[0] == "+" and found[1:].isdigit() and len(found) <= 16)
