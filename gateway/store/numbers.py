"""Telephone numbers as keys: E.164 with its ``+``, whatever way they were written."""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

DEFAULT_REGION = "US"

# The bulk of every list: written out, these need no parser (some 30 us a number).
# "+4722222222" is Norway's: after a "+" comes the country, and a US one must say so.
_NANP = re.compile(r"(?:\+?1)?([2-9][0-9]{2}[2-9][0-9]{6})", re.ASCII)
_FULL = phonenumbers.ValidationResult.IS_POSSIBLE
_NO_PLUS = re.compile(r"[1-9][0-9]{10,14}", re.ASCII)


def e164(number: str) -> str | None:
    """``number`` in E.164 with ``+``; None when it is not one (too short, too long, a name, an emergency number).

    The default region is the United States. Eleven digits or more without ``+`` that are no number there are read as
    international ones, as carriers write them.
    """
    match = _NANP.fullmatch(number)
    if match is not None:
        return "+1" + match[1]
    return _parse(number)


@lru_cache(maxsize=8192)
def _parse(number: str) -> str | None:
    number = number.strip()
    if len(number) > 250:  # nobody's number, and not worth the parser's time
        return None
    number = number[4:] if number[:4].lower() == "tel:" else number
    found = _possible(number)
    if found is None and _NO_PLUS.fullmatch(number):
        found = _possible("+" + number)
    return found


def _possible(number: str) -> str | None:
    try:
        parsed = phonenumbers.parse(number, DEFAULT_REGION)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != _FULL:
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
