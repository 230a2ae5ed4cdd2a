"""Rebuild ``config/area_codes.csv`` from a newer NPA report of the North American Numbering Plan Administrator.

    python -m scripts.build_area_codes npa_report.csv > config/area_codes.csv

The report is the CSV that NANPA publishes as "NPA Database": a line ``File Date,MM/DD/YYYY``, a line of column names,
one row for each of the 800 possible codes. Every assigned code is taken over. A place that this script does not know
stops it, named by its line: a number must never be guessed into a state.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import phonenumbers

from gateway.consent.places import REGIONS, TERRITORIES, parse_state

COUNTRIES = {
    "ANGUILLA": "AI", "ANTIGUA/BARBUDA": "AG", "BAHAMAS": "BS", "BARBADOS": "BB", "BERMUDA": "BM",
    "BRITISH VIRGIN ISLANDS": "VG", "CAYMAN ISLANDS": "KY", "DOMINICA": "DM", "DOMINICAN REPUBLIC": "DO",
    "GRENADA": "GD", "JAMAICA": "JM", "MONTSERRAT": "MS", "SINT MAARTEN": "SX", "ST. KITTS & NEVIS": "KN",
    "ST. LUCIA": "LC", "ST.LUCIA": "LC", "ST. VINCENT & GRENADINES": "VC", "TRINIDAD & TOBAGO": "TT",
    "TURKS & CAICOS ISLANDS": "TC", "US": "US", "CANADA": "CA",
}  # fmt: skip
SERVICES = (
    ("toll-free", "toll-free"),
    ("premium", "premium"),
    ("interexchange", "carrier-specific"),
    ("government", "us-government"),
    ("canadian", "canada-nongeographic"),
    ("non-geographic", "personal-5xx"),
)
"""A word of the report's columns SERVICE or NOTES, and the kind that it means."""
COLUMNS = ("NPA_ID", "ASSIGNED", "USE", "LOCATION", "COUNTRY", "IN_SERVICE", "IN_SERVICE_DT", "NOTES",
           "OVERLAY_COMPLEX", "SERVICE")  # fmt: skip
COLUMN_OF_PHONENUMBERS = f"phonenumbers_{phonenumbers.__version__.replace('.', '_')}_knows"


class ReportError(Exception):
    """A report that can't be used; the text names line and column."""


def rows(report: str) -> Iterator[dict[str, str]]:
    """The rows of ``area_codes.csv`` for the text of a report. Raises :class:`ReportError`."""
    lines = report.removeprefix("\ufeff").splitlines(keepends=True)
    label, _, date = (lines[0] if lines else "").strip().rstrip(",").partition(",")
    if label.strip().lower() != "file date" or not date:
        raise ReportError("line 1: File Date: missing; is this NANPA's NPA report?")
    reader = csv.DictReader(io.StringIO("".join(lines[1:])))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ReportError(f"line 2: {', '.join(missing)}: no such column")
    for row in reader:
        values = {name: " ".join((row[name] or "").split()) for name in COLUMNS}
        if values["ASSIGNED"].lower() == "yes":
            yield _row(values, date.strip(), reader.line_num + 1)


def _row(values: Mapping[str, str], date: str, line: int) -> dict[str, str]:
    code = values["NPA_ID"]
    if len(code) != 3 or not code.isdecimal():
        raise ReportError(f"line {line}: NPA_ID: {code!r} is not an area code")
    if values["USE"] == "G":
        country, regions = _place(values, line)
        kind = "geographic-territory" if regions and regions[0][3:] in TERRITORIES else "geographic"
    else:
        country, regions, kind = "", [], _kind(values, line)
        if kind in ("canada-nongeographic", "us-government"):
            country = COUNTRIES.get(values["COUNTRY"].upper(), "")
    in_service, since = values["IN_SERVICE"].upper() == "Y", values["IN_SERVICE_DT"]
    return {
        "code": code,
        "country": country,
        "region": "|".join(regions),
        "kind": kind,
        "source": f"NANPA NPA report, file date {date}",
        "status": "in-service" if in_service else "planned" if since else "assigned-no-date",
        "in_service_date": since,
        "overlay_complex": values["OVERLAY_COMPLEX"],
        COLUMN_OF_PHONENUMBERS: "yes" if _known(code) else "no",
    }


def _place(values: Mapping[str, str], line: int) -> tuple[str, list[str]]:
    """Country and regions of a geographic code."""
    country = COUNTRIES.get(values["COUNTRY"].upper())
    if country is None:
        raise ReportError(f"line {line}: COUNTRY: {values['COUNTRY']!r} is not known")
    if country not in ("US", "CA"):
        return country, []
    regions = []
    for name in values["LOCATION"].split("-"):
        region = "US-MP" if name.strip().upper() == "CNMI" else parse_state(name)
        if country == "US" and f"US-{name.strip().upper()}" in REGIONS:
            region = f"US-{name.strip().upper()}"
        if region is None or not region.startswith(country):
            raise ReportError(f"line {line}: LOCATION: {name.strip()!r} is no state or province of {country}")
        regions.append(region)
    return country, sorted(regions)


def _kind(values: Mapping[str, str], line: int) -> str:
    service = f"{values['SERVICE']} {values['NOTES']}".lower()
    for word, kind in SERVICES:
        if word in service:
            return kind
    raise ReportError(f"line {line}: SERVICE: {values['SERVICE']!r} is not known")


def _known(code: str) -> bool:
    """Whether phonenumbers takes any number of the code for a valid one; informative, nothing decides by it."""
    lines = ("2345678", *(f"{exchange}2345" for exchange in range(200, 1000)))
    return any(phonenumbers.is_valid_number(phonenumbers.parse(f"+1{code}{line}")) for line in lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point: the table on stdout; 2 and the line on stderr for a report that can't be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("report", type=Path, help="NANPA's npa_report.csv")
    options = parser.parse_args(argv)
    try:
        table = list(rows(options.report.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, ReportError) as error:
        print(f"build_area_codes: {options.report}: {error}", file=sys.stderr)
        return 2
    if not table:
        print(f"build_area_codes: {options.report}: no assigned code in it", file=sys.stderr)
        return 2
    writer = csv.DictWriter(sys.stdout, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
