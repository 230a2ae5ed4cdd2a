"""Passwords of the web: argon2id (RFC 9106), and what a password must be."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

MIN_LENGTH, MAX_LENGTH = 12, 256

_HASHER = PasswordHasher()  # argon2id with the library's (RFC 9106 low-memory) parameters: 64 MiB, 3 passes
_NOBODY = _HASHER.hash("a password that nobody has")


class WeakPassword(ValueError):
    """The message says what a password must be."""


def hash_password(password: str, username: str = "") -> str:
    """The argon2id hash of a new password. Takes some 50 ms; not for the event loop. Raises WeakPassword."""
    if len(password) < MIN_LENGTH:
        raise WeakPassword(f"a password has at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise WeakPassword(f"a password has at most {MAX_LENGTH} characters")
    if username and username.lower() in password.lower():
        raise WeakPassword("a password does not contain the user's name")
    if len(set(password)) < 5:
        raise WeakPassword("a password has at least 5 different characters")
    return _HASHER.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether ``password`` is the stored one. None (no such user) takes as long as a wrong password."""
    try:
        right = _HASHER.verify(stored if stored is not None else _NOBODY, password[: MAX_LENGTH + 1])
        return right and stored is not None
    except (Argon2Error, InvalidHashError):
        return False
