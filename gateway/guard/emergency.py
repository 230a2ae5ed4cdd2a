"""Emergency numbers: their calls pass first, whatever the limits."""

from __future__ import annotations

from gateway.sip.errors import SipError
from gateway.sip.message import Request
from gateway.sip.uri import Uri

_SEPARATORS = str.maketrans("", "", "-.() ")


def dials_one_of(request: Request, numbers: frozenset[str]) -> bool:
    """Whether the Request-URI names one of ``numbers`` (RFC 3966 visual separators and ``+`` do not count)."""
    try:
        user = Uri.parse(request.uri).username
    except SipError:
        return False
    return user.translate(_SEPARATORS).removeprefix("+") in numbers
