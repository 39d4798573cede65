"""What all tables of the one database have in common.

Each room declares its own tables on `Base` and is the only one that queries them. A change of a table needs a
migration too: `docs/database.md` says how one is made.
"""

from typing import Final

from sqlalchemy import BigInteger, Double, Integer, String
from sqlalchemy.orm import DeclarativeBase

# PostgreSQL sorts by the language of its installation, unless told: by code point, as SQLite and Python do.
TEXT: Final = String().with_variant(String(collation="C"), "postgresql")
# A release's number may pass 2^31; SQLite has one kind of whole number and counts up only that.
WHOLE: Final = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """What every table of the cloud derives from."""

    type_annotation_map: Final = {str: TEXT, int: WHOLE, float: Double()}
