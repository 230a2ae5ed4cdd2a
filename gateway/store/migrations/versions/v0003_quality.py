"""The quality of a call, beside how it ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From 0002."""
    with op.batch_alter_table("calls") as calls:
        calls.add_column(sa.Column("quality", sa.JSON(), nullable=True))


def downgrade() -> None:
    """To 0002."""
    with op.batch_alter_table("calls") as calls:
        calls.drop_column("quality")
