"""Where people are: states by any of their spellings, numbers by their area code.

A +1 number belongs to the country and region(s) of its area code by our own table; phonenumbers parses, says whether a
number is *possible*, and tells the country outside +1. It takes no part in +1 regions.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, ValidationResult

DEFAULT_REGION = "US"
TERRITORIES = ("PR", "VI", "GU", "AS", "MP")

_US = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "DC": "District of Columbia", "FL": "Florida", "GA": "Georgia",
    "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas", "KY": "Kentucky",
    "LA": "Louisiana", "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota",
    "MS": "Mississippi", "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire",
    "NJ": "New Jersey", "NM": "New Mexico", "NY": "New York", "NC": "North Carolina", "ND": "North Dakota",
    "OH": "Ohio", "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania", "RI": "Rhode Island", "SC": "South Carolina",
    "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia",
    "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming", "PR": "Puerto Rico",
    "VI": "U.S. Virgin Islands", "GU": "Guam", "AS": "American Samoa", "MP": "Northern Mariana Islands",
}  # fmt: skip
_CA = {
    "AB": "Alberta", "BC": "British Columbia", "MB": "Manitoba", "NB": "New Brunswick",
    "NL": "Newfoundland and Labrador", "NS": "Nova Scotia", "NT": "Northwest Territories", "NU": "Nunavut",
    "ON": "Ontario", "PE": "Prince Edward Island", "QC": "Quebec", "SK": "Saskatchewan", "YT": "Yukon",
}  # fmt: skip
REGIONS: Mapping[str, str] = {f"US-{c}": n for c, n in _US.items()} | {f"CA-{c}": n for c, n in _CA.items()}
"""ISO 3166-2 code to name: states, DC, territories, provinces."""

_MORE_NAMES = {
    "virgin islands": "US-VI", "us virgin islands": "US-VI", "virgin islands, u.s.": "US-VI",
    "united states virgin islands": "US-VI", "washington dc": "US-DC", "washington d.c.": "US-DC",
    "washington, dc": "US-DC", "washington, d.c.": "US-DC", "d.c.": "US-DC",
    "commonwealth of the northern mariana islands": "US-MP", "québec": "CA-QC", "yukon territory": "CA-YT",
    "newfoundland": "CA-NL", "newfoundland & labrador": "CA-NL",
}  # fmt: skip
_SPELLINGS: Mapping[str, str] = {
    **{name.lower(): code for code, name in REGIONS.items()},
    **{code[3:].lower(): code for code in REGIONS},
    **{code.lower(): code for code in REGIONS},
    **_MORE_NAMES,
}
NANP_COUNTRIES = frozenset(phonenumbers.COUNTRY_CODE_TO_REGION_CODE[1])
_COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)
_COUNTRY_NAMES = {"usa": "US", "united states": "US", "united states of america": "US", "canada": "CA"}


def parse_state(text: object) -> str | None:
    """``US-NH``, ``nh``, ``New Hampshire`` -> ``US-NH``; None for anything else."""
    if not isinstance(text, str):
        return None
    # some systems write é as two characters
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    return _SPELLINGS.get(" ".join(composed.split()).lower())


def parse_country(text: object) -> tuple[str | None, str | None]:
    """A country, and the region that it implies: ``us`` -> ("US", None), ``PR`` -> ("US", "US-PR").

    (None, None) for what is no country.
    """
    if not isinstance(text, str):
        return None, None
    name = " ".join(text.split())
    code = _COUNTRY_NAMES.get(name.lower(), name.upper())
    if code in TERRITORIES:
        return "US", f"US-{code}"
    return (code, None) if code in _COUNTRIES else (None, None)


class DataError(Exception):
    """Reference data that cannot be used; the message names line and column or key."""


@dataclass(frozen=True, slots=True)
class AreaCode:
    """One NANP area code: ISO country ("" for none), regions, and what kind it is."""

    code: str
    country: str
    regions: tuple[str, ...]
    kind: str

    @property
    def geographic(self) -> bool:
        return self.kind.startswith("geographic")


@dataclass(frozen=True, eq=False)
class AreaCodes:
    """The area code table, itself alone equal to it. ``version`` is the date of the report."""

    codes: Mapping[str, AreaCode]
    version: str = ""

    @classmethod
    def from_csv(cls, text: str) -> AreaCodes:
        """Raises DataError naming line and column."""
        found: dict[str, AreaCode] = {}
        source = ""
        for line, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            code = (row.get("code") or "").strip()
            if len(code) != 3 or not code.isdecimal():
                raise DataError(f"line {line}: code: {code!r} is not an area code")
            if code in found:
                raise DataError(f"line {line}: code: {code} stands there twice")
            regions = tuple(r for r in (row.get("region") or "").split("|") if r)
            found[code] = AreaCode(code, row.get("country") or "", regions, row.get("kind") or "")
            source = source or (row.get("source") or "")
        return cls(found, source)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a number is.

    ``country`` None: cannot be told; ``domestic`` then says that it is a +1 number without a place.
    """

    e164: str | None
    country: str | None
    regions: tuple[str, ...] = ()
    domestic: bool = False
    why: str = ""


_PLAIN = re.compile(r"\+1[2-9][0-9]{9}").fullmatch
"""E.164 in +1 as dialing lists have it: ten digits are all that makes a +1 number possible, so nobody need be asked."""


def locate(number: object, codes: AreaCodes) -> Place:
    """Where a number, as dialed, is."""
    if not isinstance(number, str) or not number.strip():
        return Place(None, None, why="no number")
    return _locate(number, codes) if len(number) <= MAX_NUMBER else Place(None, None, why=_NOWHERE)


MAX_NUMBER = 250
"""phonenumbers reads no longer texts either."""
_NOWHERE = "cannot be parsed, or is not a possible number"


def _parse(text: str) -> tuple[int, str, str] | None:
    """Calling code, national number (country, outside +1), E.164; None when it is no possible number."""
    if _PLAIN(text):
        return 1, text[2:], text
    text = text.strip()
    text = text[4:] if text[:4].lower() == "tel:" else text
    try:
        parsed = phonenumbers.parse(text, DEFAULT_REGION)
    except NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if parsed.country_code == 1:
        return 1, e164[2:], e164
    region = phonenumbers.region_code_for_number(parsed)
    return parsed.country_code or 0, region if region and region != "001" else "", e164


@lru_cache(maxsize=65536)
def _locate(number: str, codes: AreaCodes) -> Place:
    parsed = _parse(number)
    if parsed is None:
        return Place(None, None, why=_NOWHERE)
    calling_code, rest, e164 = parsed
    if calling_code != 1:
        return Place(e164, rest or None, why="" if rest else "no country has it")
    area = codes.codes.get(rest[:3])
    if area is None:
        return Place(e164, None, domestic=True, why=f"area code {rest[:3]} is not in the table")
    if not area.geographic or not area.country:
        return Place(e164, None, domestic=True, why=f"area code {area.code} is {area.kind}")
    return Place(e164, area.country, area.regions)
