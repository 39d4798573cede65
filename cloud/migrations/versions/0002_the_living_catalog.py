"""The living catalog: stores, proposals, rollouts in stages and what they are judged by."""

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
    op.create_index("ix_devices_token_sha256", "devices", ["token_sha256"])
    _make_stores()
    _make_proposals()
    _widen_rollouts()
    _make_counters()
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


def _widen_rollouts() -> None:
    """Give the rollouts a plan; those that are there have none, and are as far as a person has let them."""
    moment, long_ago = sa.DateTime(), "1970-01-01 00:00:00"
    for column in (
        sa.Column("plan", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("stage", WHOLE, nullable=False, server_default="0"),
        sa.Column("shadow", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("stage_started", moment, nullable=False, server_default=long_ago),
        sa.Column("judged_from", moment, nullable=False, server_default=long_ago),
        sa.Column("finished", moment),
        sa.Column("says", TEXT, nullable=False, server_default=""),
        sa.Column("seen", sa.JSON(), nullable=False, server_default="{}"),
    ):
        op.add_column("rollouts", column)
    op.execute("UPDATE rollouts SET stage_started = changed, judged_from = started")
    op.create_index("ix_rollouts_changed", "rollouts", ["changed"])
    op.create_table(
        "rollout_steps",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("version", WHOLE, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("percent", sa.Double, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in ("channel", "action", "by", "reason")),
    )
    op.create_index("ix_rollout_steps_version", "rollout_steps", ["version"])
    op.create_table(
        "rollout_devices",
        sa.Column("version", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("device", TEXT, primary_key=True),
        sa.Column("store", TEXT),
        sa.Column("stage", WHOLE, nullable=False),
        sa.Column("standing", TEXT, nullable=False),
        sa.Column("offered", moment, nullable=False),
        sa.Column("taken", moment),
        sa.Column("failed", moment),
        sa.Column("failure", TEXT),
    )


def _make_counters() -> None:
    moment = sa.DateTime()
    op.create_table(
        "accuracy",
        sa.Column("release", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("hour", moment, primary_key=True),
        sa.Column("shard", WHOLE, primary_key=True, autoincrement=False),
        *(
            sa.Column(name, WHOLE, nullable=False)
            for name in ("scans", "scans_agree", "told_right", "told_wrong", "answers", "unknown", "timed")
        ),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("log_ms", "log_ms_squares")),
    )
    op.create_table(
        "shadow_answers",
        sa.Column("release", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("shard", WHOLE, primary_key=True, autoincrement=False),
        *(
            sa.Column(name, WHOLE, nullable=False)
            for name in ("answers", "same_sku", "same_verdict", "unknown", "unknown_before")
        ),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("ms", "ms_before")),
    )
    op.create_table(
        "wave",
        sa.Column("at", moment, primary_key=True),
        sa.Column("release", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("devices", WHOLE, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("until", moment, nullable=False),
    )


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
