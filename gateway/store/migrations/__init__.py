"""Schema versions, by alembic. They run when a store is opened, in one transaction."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from gateway.store.errors import SchemaTooNew

HEAD = "0003"
"""The revision that this program needs: of a database that has it nothing more is asked, and alembic isn't loaded."""


def current(connection: Connection) -> str | None:
    """The revision that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: Connection) -> None:
    """Bring the database to ``HEAD``, in the transaction of ``connection``. Raises SchemaTooNew."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":  # who opens the store at the same time waits here
        connection.execute(text("SELECT pg_advisory_xact_lock(7661901)"))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    found = current(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaTooNew(
            f"{connection.engine.url.database}: its schema is version {found}, this program knows up to {HEAD}; "
            "use the newer program that wrote it"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
