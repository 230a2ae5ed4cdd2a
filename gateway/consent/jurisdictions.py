"""One-party or two-party, by region and date."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from gateway.consent.places import REGIONS, DataError


class Consent(StrEnum):
    """What a region's law asks for."""

    ONE_PARTY = "one_party"
    TWO_PARTY = "two_party"


@dataclass(frozen=True, slots=True)
class Row:
    """One region from one date on; a change of law is a new row, not an edit."""

    region: str
    consent: Consent
    effective_from: date
    statute: str
    sources: tuple[str, ...]
    reviewed: date


@dataclass(frozen=True)
class Jurisdictions:
    """The data of one version."""

    version: str
    rows: Mapping[str, tuple[Row, ...]]
    """By region, the newest first."""

    @classmethod
    def from_toml(cls, text: str) -> Jurisdictions:
        """Raises DataError naming row and key."""
        try:
            parsed = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise DataError(str(error)) from None
        rows: dict[str, list[Row]] = {}
        for number, item in enumerate(parsed.get("jurisdiction", []), start=1):
            row = _row(number, item)
            rows.setdefault(row.region, []).append(row)
        version = parsed.get("version")
        if not isinstance(version, str) or not version:
            raise DataError("version: missing")
        ordered = {r: tuple(sorted(rs, key=lambda row: row.effective_from, reverse=True)) for r, rs in rows.items()}
        return cls(version, ordered)

    def row(self, region: str, on: date) -> Row | None:
        """The row in force on a day."""
        return next((row for row in self.rows.get(region, ()) if row.effective_from <= on), None)

    def consent(self, region: str, on: date) -> Consent:
        """Two-party for a region that the data does not have."""
        row = self.row(region, on)
        return row.consent if row is not None else Consent.TWO_PARTY


def _row(number: int, item: Mapping[str, Any]) -> Row:
    where = f"jurisdiction {number}"
    unknown = set(item) - {"region", "consent", "effective_from", "statute", "sources", "reviewed"}
    if unknown:
        raise DataError(f"{where}: {', '.join(sorted(unknown))}: no such key")
    region = item.get("region")
    if region not in REGIONS:
        raise DataError(f"{where}: region: {region!r} is not a state, territory or province")
    where = f"{where} ({region})"
    try:
        consent = Consent(item.get("consent", ""))
    except ValueError:
        raise DataError(f"{where}: consent: {item.get('consent')!r} is neither one_party nor two_party") from None
    for key in ("effective_from", "reviewed"):
        if type(item.get(key)) is not date:
            raise DataError(f"{where}: {key}: {item.get(key)!r} is not a date")
    statute, sources = item.get("statute"), item.get("sources")
    if not isinstance(statute, str) or not statute:
        raise DataError(f"{where}: statute: missing")
    if not isinstance(sources, list) or not sources or not all(isinstance(s, str) and s for s in sources):
        raise DataError(f"{where}: sources: a list of texts is needed")
    return Row(str(region), consent, item["effective_from"], statute, tuple(sources), item["reviewed"])
