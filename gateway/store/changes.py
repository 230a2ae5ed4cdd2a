"""The counter that tells readers, in this process and in others, that what they remember is out of date."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from gateway.store.tables import changes


def bump(connection: Connection) -> None:
    """Note, in the running transaction, that something that call setup reads has changed."""
    connection.execute(update(changes).values(counter=changes.c.counter + 1))


def counter(connection: Connection) -> int:
    """The count of changes so far."""
    return int(connection.execute(select(func.sum(changes.c.counter))).scalar_one())
