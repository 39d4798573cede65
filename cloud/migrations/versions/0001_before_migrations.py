"""The tables as they were before there were migrations: catalog, releases, rollouts, fleet and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them."""
    _catalog()
    _releases()
    _fleet()
    _events()


def _catalog() -> None:
    op.create_table(
        "products",
        sa.Column("sku", TEXT, primary_key=True),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("gtin", TEXT),
        sa.Column("price", TEXT),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed_at", sa.DateTime()),
    )
    op.create_index("ix_products_category", "products", ["category"])
    op.create_index("ix_products_gtin", "products", ["gtin"])
    op.create_table(
        "photos",
        sa.Column("sku", TEXT, sa.ForeignKey("products.sku"), primary_key=True),
        sa.Column("sha256", TEXT, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("split", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("added", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_photos_sha256", "photos", ["sha256"])
    op.create_index("ix_photos_split", "photos", ["split"])


def _releases() -> None:
    op.create_table(
        "releases",
        sa.Column("version", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("products", WHOLE, nullable=False),
        sa.Column("rows", WHOLE, nullable=False),
        sa.Column("files", WHOLE, nullable=False),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("new_bytes", WHOLE, nullable=False),
    )
    op.create_table(
        "rollouts",
        sa.Column("channel", TEXT, primary_key=True),
        sa.Column("version", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("percent", sa.Double(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("started", sa.DateTime(), nullable=False),
        sa.Column("changed", sa.DateTime(), nullable=False),
    )


def _fleet() -> None:
    op.create_table(
        "enrollment_codes",
        sa.Column("code_sha256", TEXT, primary_key=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
        sa.Column("device", TEXT),
    )
    op.create_table(
        "devices",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("device_class", TEXT, nullable=False),
        sa.Column("software", TEXT, nullable=False),
        sa.Column("token_sha256", TEXT, nullable=False),
        sa.Column("enrolled", sa.DateTime(), nullable=False),
        sa.Column("last_seen", sa.DateTime(), nullable=False),
        sa.Column("release", WHOLE),
        sa.Column("status", sa.JSON(), nullable=False),
    )
    op.create_index("ix_devices_release", "devices", ["release"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("received", sa.DateTime(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
    )
    for column in ("at", "device", "kind"):
        op.create_index(f"ix_events_{column}", "events", [column])
    op.create_table(
        "slots",
        sa.Column("device", TEXT, primary_key=True),
        sa.Column("slot", TEXT, primary_key=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("sku", TEXT),
        sa.Column("seen", TEXT),
        sa.Column("at", sa.DateTime(), nullable=False),
    )
