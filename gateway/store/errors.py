"""What the store raises."""

from __future__ import annotations


class StoreError(Exception):
    """The store can't do what it was asked; the message says what and why, in one line."""


class SchemaTooNew(StoreError):
    """The database was written by a newer version of the program."""


class NotFound(StoreError):
    """What was named is not in the store."""


class Conflict(StoreError):
    """What was to be added is there already, or was changed by somebody else meanwhile."""


class UnreadablePolicy(StoreError):
    """A stored policy that this program can't understand."""


class JournalError(StoreError):
    """A record could not be stored."""
