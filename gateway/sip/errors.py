"""Errors that carry the SIP status their sender should hear."""

from __future__ import annotations

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
    200: "OK", 202: "Accepted", 300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout", 410: "Gone",
    413: "Request Entity Too Large", 415: "Unsupported Media Type", 416: "Unsupported URI Scheme",
    420: "Bad Extension", 421: "Extension Required", 423: "Interval Too Brief", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete",
    486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 491: "Request Pending",
    500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Server Time-out", 505: "Version Not Supported", 513: "Message Too Large", 600: "Busy Everywhere",
    603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip
"""Default reason phrases (RFC 3261 §21)."""


class SipError(Exception):
    """A request that is answered with ``status``; ``headers`` go into the response (RFC 3261 §8.2)."""

    def __init__(self, status: int, reason: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.reason = reason or REASONS.get(status, "Error")
        self.headers = headers
        super().__init__(f"{status} {self.reason}")


class Dropped(SipError):
    """A request that is not answered at all; ``reason`` is for the counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


class ParseError(SipError):
    """Bytes that are no SIP message, or a header that is not what its grammar says."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(status, reason)
