"""The Range header (RFC 9110 §14): what is to be honoured of it."""

from __future__ import annotations

import re

_UNIT = re.compile(r"\s*bytes\s*=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(?:([0-9]{1,30})[ \t]*-[ \t]*([0-9]{1,30})?|-([0-9]{1,30}))", re.ASCII)
MAX_RANGES = 20


class Unsatisfiable(Exception):
    """None of the ranges lies in what there is (416)."""


def satisfiable(header: str | None, size: int) -> str | None:
    """The header with those of its ranges alone that ``size`` bytes have; None where it is to be ignored.

    It is ignored (§14.2) when it is absent, malformed, of another unit, or asks for more than 20 ranges. Raises
    Unsatisfiable.
    """
    match = _UNIT.fullmatch(header or "")
    if match is None:
        return None
    parts = [part for raw in match[1].split(",") if (part := raw.strip(" \t"))]
    if not 1 <= len(parts) <= MAX_RANGES:
        return None
    kept = []
    for part in parts:
        found = _RANGE.fullmatch(part)
        if found is None:
            return None
        if found[3] is not None:
            first, last = max(0, size - int(found[3])), size - 1
        else:
            first, last = int(found[1]), int(found[2]) if found[2] is not None else size - 1
            if found[2] is not None and last < first:
                return None
        if first < size:
            kept.append(f"{first}-{min(last, size - 1)}")
    if not kept:
        raise Unsatisfiable
    return "bytes=" + ",".join(kept)
