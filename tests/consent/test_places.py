"""Numbers, states and countries; the area code table row by row against phonenumbers."""

from __future__ import annotations

import csv
import io
import random
from importlib import resources

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import ValidationResult, geocoder

from gateway.consent.places import REGIONS, AreaCodes, DataError, locate, parse_country, parse_state
from scripts.bench_decide import reference_data

CODES = reference_data().area_codes
ROWS = list(csv.DictReader(io.StringIO(resources.files("config").joinpath("area_codes.csv").read_text("utf-8"))))

UNKNOWN_TO_PHONENUMBERS = {
    "357", "837", "436", "457", "621", "624", "679", "729", "861", "924", "465", "471", "483", "565", "761", "538",
    "700", "710", "822",
}  # fmt: skip
"""phonenumbers 9.0.43 takes no number of these for a valid one."""
NOWHERE = (
    "500", "521", "522", "523", "524", "525", "526", "527", "528", "529", "532", "533", "544", "566", "577", "588",
    "800", "833", "844", "855", "866", "877", "888", "900",
)  # fmt: skip
COUNTRY_DIFFERS: dict[str, str | None] = {"600": "CA", "622": "CA", "633": "CA"} | dict.fromkeys(NOWHERE, "US")
"""Non-geographic codes that have no country for us, and one for phonenumbers."""


def a_valid_number(code: str) -> phonenumbers.PhoneNumber | None:
    """A number of the code that phonenumbers takes for valid, if there is one."""
    for line in ("2345678", *(f"{exchange}2345" for exchange in range(200, 1000))):
        number = phonenumbers.parse(f"+1{code}{line}")
        if phonenumbers.is_valid_number(number):
            return number
    return None


def test_every_row_is_as_phonenumbers_says_but_for_the_known_differences() -> None:
    assert len(ROWS) == 488
    unknown, countries, places = set(), {}, {}
    for row in ROWS:
        number = a_valid_number(row["code"])
        if number is None:
            unknown.add(row["code"])
            continue
        theirs = phonenumbers.region_code_for_number(number)
        ours = locate(f"+1{row['code']}2345678", CODES)
        territory = ours.regions[0][3:] if ours.country == "US" and ours.regions else ""
        if theirs not in (ours.country, territory):
            countries[row["code"]] = theirs
        described = geocoder.description_for_number(number, "en", region="ZZ")
        if ours.country in ("US", "CA") and described and len(ours.regions) == 1:
            named = parse_state(described.rsplit(", ", 1)[-1])
            if named is not None and named != ours.regions[0]:
                places[row["code"]] = (named, ours.regions[0])
    assert unknown == UNKNOWN_TO_PHONENUMBERS
    assert countries == COUNTRY_DIFFERS
    assert places == {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["code"]))
def test_a_number_of_each_row_is_where_the_row_says(row: dict[str, str]) -> None:
    place = locate(f"+1{row['code']}5550123", CODES)
    regions = tuple(filter(None, row["region"].split("|")))
    if row["kind"].startswith("geographic"):
        assert (place.country, place.regions, place.domestic) == (row["country"], regions, False)
    else:
        assert (place.country, place.regions, place.domestic) == (None, (), True)


def test_the_codes_that_are_not_in_the_table_are_domestic_without_a_place() -> None:
    missing = [code for code in map(str, range(200, 1000)) if code not in CODES.codes]
    assert len(missing) == 800 - 488
    for code in missing:
        place = locate(f"+1{code}5550123", CODES)
        assert (place.country, place.regions, place.domestic) == (None, (), True)


@pytest.mark.parametrize(
    ("number", "e164", "country"),
    [
        ("(212) 555-0123", "+12125550123", "US"),
        ("1 212 555 0123", "+12125550123", "US"),
        ("tel:+1-212-555-0123", "+12125550123", "US"),
        ("011 44 20 7946 0123", "+442079460123", "GB"),
        ("+44 20 7946 0123", "+442079460123", "GB"),
        ("+49 30 123456", "+4930123456", "DE"),
        ("+39 06 698 12345", "+390669812345", "VA"),
        ("+1 242 555 0123", "+12425550123", "BS"),
        ("+1 787 555 0123", "+17875550123", "US"),
        ("911", None, None),
        ("988", None, None),
        ("5550123", None, None),
        ("+1212555012", None, None),
        ("+121255501234", None, None),
        ("+800 1234 5678", "+80012345678", None),
        ("+999 123456789", None, None),
        ("anonymous", None, None),
        ("", None, None),
        ("1" * 300, None, None),
    ],
)
def test_numbers(number: str, e164: str | None, country: str | None) -> None:
    place = locate(number, CODES)
    assert (place.e164, place.country) == (e164, country)


def test_the_short_way_for_plain_numbers_says_what_phonenumbers_says() -> None:
    draw = random.Random(7)
    for _ in range(3000):
        text = f"+1{draw.randrange(2_000_000_000, 10_000_000_000)}"
        parsed = phonenumbers.parse(text, "US")
        assert phonenumbers.is_possible_number_with_reason(parsed) == ValidationResult.IS_POSSIBLE
        assert (
            phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == text == locate(text, CODES).e164
        )


@given(
    st.one_of(st.text(max_size=300), st.text(alphabet="+0123456789 -()#*;=ext.", max_size=40), st.none(), st.integers())
)
def test_locating_never_raises(number: object) -> None:
    place = locate(number, CODES)
    assert place.country is not None or place.why


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("US-NH", "US-NH"), ("nh", "US-NH"), ("New Hampshire", "US-NH"), ("  new   HAMPSHIRE ", "US-NH"),
        ("district of columbia", "US-DC"), ("pr", "US-PR"), ("Guam", "US-GU"), ("ON", "CA-ON"), ("ca-on", "CA-ON"),
        ("québec", "CA-QC"), ("Quebec", "CA-QC"), ("Que\u0301bec", "CA-QC"),
        ("Washington, D.C.", "US-DC"), ("CA", "US-CA"), ("US-ON", None), ("CA-CA", None), ("Bavaria", None),
        ("", None), (None, None), (7, None), ("US", None),
    ],
)  # fmt: skip
def test_states_by_any_spelling(text: object, state: str | None) -> None:
    assert parse_state(text) == state


def test_every_region_is_found_by_code_and_name_in_any_case() -> None:
    assert len(REGIONS) == 50 + 1 + 5 + 13
    for code, name in REGIONS.items():
        assert {parse_state(code), parse_state(code.lower()), parse_state(name), parse_state(name.upper())} == {code}
        assert parse_state(code[3:].lower()) == code


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("US", ("US", None)), ("us", ("US", None)), ("PR", ("US", "US-PR")), ("GB", ("GB", None)), ("BS", ("BS", None)),
        ("Canada", ("CA", None)), ("XX", (None, None)), ("", (None, None)), (None, (None, None)),
    ],
)  # fmt: skip
def test_countries(text: object, country: tuple[str | None, str | None]) -> None:
    assert parse_country(text) == country


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,country,region,kind\n2I2,US,US-NY,geographic\n", "line 2: code: '2I2'"),
        ("code,country,region,kind\n212,US,US-NY,geographic\n212,US,US-NY,geographic\n", "line 3: code: 212"),
    ],
)
def test_a_bad_table_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        AreaCodes.from_csv(text)
    assert message in str(caught.value)
