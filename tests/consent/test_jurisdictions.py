"""The law by region and date, as CONSENT.md lists it."""

from __future__ import annotations

from datetime import date
from importlib import resources

import pytest

from gateway.consent.jurisdictions import Consent, Jurisdictions
from gateway.consent.places import REGIONS, DataError
from scripts.bench_decide import reference_data

LAW = reference_data().jurisdictions
TWO_PARTY = {
    "CA", "CT", "DE", "FL", "IL", "MD", "MA", "MI", "MT", "NV", "NH", "OR", "PA", "VT", "WA", "PR", "VI", "GU",
    "AS", "MP",
}  # fmt: skip
TEXT = resources.files("config").joinpath("jurisdictions.toml").read_text("utf-8")
ROW = """version = "1"
[[jurisdiction]]
region = "US-TX"
consent = "one_party"
effective_from = 2000-01-01
statute = "Tex. Penal Code 16.02"
sources = ["a list"]
reviewed = 2026-01-01
"""


@pytest.mark.parametrize("region", sorted(REGIONS))
def test_every_region_has_a_row_with_everything_in_it(region: str) -> None:
    row = LAW.row(region, date(2026, 1, 5))
    assert row is not None
    assert row.statute
    assert row.sources
    assert row.reviewed <= date(2026, 11, 24)
    wanted = Consent.TWO_PARTY if region.startswith("CA-") or region[3:] in TWO_PARTY else Consent.ONE_PARTY
    assert row.consent is wanted


def test_a_region_or_a_time_without_data_is_two_party() -> None:
    assert LAW.consent("US-ZZ", date(2026, 1, 1)) is Consent.TWO_PARTY
    early = Jurisdictions.from_toml(ROW)
    assert early.consent("US-TX", date(1999, 12, 31)) is Consent.TWO_PARTY
    assert early.consent("US-TX", date(2000, 1, 1)) is Consent.ONE_PARTY


def test_a_change_of_law_is_a_new_row() -> None:
    changed = Jurisdictions.from_toml(
        ROW
        + """
[[jurisdiction]]
region = "US-TX"
consent = "two_party"
effective_from = 2027-01-01
statute = "a new one"
sources = ["a list"]
reviewed = 2026-06-01
"""
    )
    assert changed.consent("US-TX", date(2026, 12, 31)) is Consent.ONE_PARTY
    assert changed.consent("US-TX", date(2027, 1, 1)) is Consent.TWO_PARTY


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('version = "1"', "", "version: missing"),
        ("US-TX", "US-ZZ", "jurisdiction 1: region: 'US-ZZ'"),
        ("one_party", "no_party", "jurisdiction 1 (US-TX): consent: 'no_party'"),
        ("effective_from = 2000-01-01", 'effective_from = "soon"', "effective_from: 'soon' is not a date"),
        ('"Tex. Penal Code 16.02"', '""', "statute: missing"),
        ('["a list"]', "[]", "sources:"),
        ("reviewed", "revised", "revised: no such key"),
        ("[[", "[", "Expected"),
    ],
)
def test_bad_data_is_refused_by_row_and_key(was: str, becomes: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Jurisdictions.from_toml(ROW.replace(was, becomes, 1))
    assert message in str(caught.value)


def test_the_shipped_file_reads_back_whole() -> None:
    assert len(Jurisdictions.from_toml(TEXT).rows) == 50 + 1 + 5 + 13
