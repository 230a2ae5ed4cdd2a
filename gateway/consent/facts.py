"""The facts of a call, as they come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class FactsError(Exception):
    """Facts that cannot be used; ``key`` names which."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"{key}: {reason}")


@dataclass(frozen=True, slots=True)
class Facts:
    """See CONSENT.md; the engine takes whatever stands in the fields, ``from_mapping`` checks them."""

    direction: str
    prospect_number: str | None
    prospect_state: str | None = None
    user_country: str | None = None
    user_state: str | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Facts:
        """Raises FactsError."""
        for key, value in values.items():
            if key not in _NAMES:
                raise FactsError(key, "no such fact")
            if value is not None and not isinstance(value, str):
                raise FactsError(key, "must be a text or null")
        for key in ("direction", "prospect_number"):
            if key not in values:
                raise FactsError(key, "missing")
        if values["direction"] not in ("outbound", "inbound"):
            raise FactsError("direction", f"{values['direction']!r} is neither outbound nor inbound")
        return cls(**values)


_NAMES = frozenset(Facts.__dataclass_fields__)
