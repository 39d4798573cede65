"""The living catalog: stores."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make and change what it needs; every row that is there stays."""
    op.add_column("enrollment_codes", sa.Column("store", TEXT))
    op.add_column("devices", sa.Column("store", TEXT))
    op.create_index("ix_devices_store", "devices", ["store"])
    _make_stores()
    _make_proposals()
    _key_releases_by_assortment()


def _make_stores() -> None:
    moment = sa.DateTime()
    op.create_table(
        "stores",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("region", TEXT),
        sa.Column("takes_region", sa.Boolean, nullable=False),
        sa.Column("timezone", TEXT, nullable=False),
        sa.Column("window", TEXT, nullable=False),
        sa.Column("created", moment, nullable=False),
    )
    op.create_index("ix_stores_region", "stores", ["region"])
    op.create_table(
        "places", sa.Column("sku", TEXT, primary_key=True), sa.Column("place", TEXT, primary_key=True)
    )
    op.create_index("ix_places_place", "places", ["place"])
    op.create_table(
        "moves",
        sa.Column("device", TEXT, primary_key=True),
        sa.Column("assortment", TEXT, nullable=False),
        sa.Column("after", WHOLE, nullable=False),
    )


def _make_proposals() -> None:
    moment = sa.DateTime()
    op.create_table(
        "proposals",
        sa.Column("id", TEXT, primary_key=True),
        *(sa.Column(name, TEXT, nullable=False) for name in ("sku", "title", "category")),
        *(sa.Column(name, TEXT) for name in ("gtin", "price")),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("target", TEXT),
        sa.Column("release", WHOLE),
        sa.Column("created", moment, nullable=False),
        sa.Column("decided", moment),
        sa.Column("look_alikes", sa.JSON(), nullable=False),
    )
    op.create_table(
        "proposal_sources",
        *(
            sa.Column(name, TEXT, primary_key=name == "id", nullable=False)
            for name in ("id", "proposal", "device")
        ),
        sa.Column("at", moment, nullable=False),
    )
    op.create_table(
        "proposal_photos",
        *(sa.Column(name, TEXT, primary_key=True) for name in ("proposal", "sha256")),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("received", moment),
    )
    indexed = {
        "proposals": ("sku", "gtin", "state"),
        "proposal_sources": ("proposal", "device"),
        "proposal_photos": ("sha256", "device"),
    }
    for table, columns in indexed.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])


def _key_releases_by_assortment() -> None:
    """Copy the table of releases: SQLite cannot change a key. What was published is of the whole catalog."""
    texts, numbers = ("sha256", "model", "space"), ("products", "rows", "files", "size", "new_bytes")
    op.create_table(
        "releases_by_assortment",
        sa.Column("version", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("assortment", TEXT, primary_key=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in texts),
        *(sa.Column(name, WHOLE, nullable=False) for name in numbers),
    )
    names = ", ".join(("version", "created", *texts, *numbers)).replace("rows", '"rows"')
    into = f"INSERT INTO releases_by_assortment (assortment, {names})"
    op.execute(f"{into} SELECT '', {names} FROM releases")
    op.drop_table("releases")
    op.rename_table("releases_by_assortment", "releases")
    op.create_index("ix_releases_assortment", "releases", ["assortment"])
    op.create_index("ix_releases_sha256", "releases", ["sha256"])
