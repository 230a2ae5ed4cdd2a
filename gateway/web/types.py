"""What requests may carry: bounded, printable texts and numbers that every database takes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, AwareDatetime, StringConstraints

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Text = Annotated[str, StringConstraints(max_length=255, pattern=PRINTABLE)]
"""A line of text."""
Secret = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00]*$")]
Username = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9+_.~!*-]+$")]
UsernamePath = Annotated[str, Path(max_length=255, pattern=r"^[A-Za-z0-9+_.~!*-]+$", examples=["alice"])]
CallIdPath = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9-]+$", examples=["20261124T120000-00112233"])]
Number = Annotated[str, StringConstraints(max_length=64, pattern=PRINTABLE)]
NumberQuery = Annotated[str | None, Query(max_length=64, pattern=PRINTABLE, description="The prospect's, any writing")]
TextQuery = Annotated[str | None, Query(max_length=255, pattern=PRINTABLE)]
Cursor = Annotated[
    str | None, Query(max_length=200, pattern=PRINTABLE, description="``next`` of the page before this one")
]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of a page at most")]


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the years 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with a zone, that every database takes."""
Time = Annotated[Moment | None, Query(description="ISO 8601 with a zone")]

__all__ = [
    "CallIdPath", "Cursor", "Limit", "Moment", "Number", "NumberQuery", "Secret", "Text", "TextQuery", "Time",
    "Username", "UsernamePath", "datetime",
]  # fmt: skip
