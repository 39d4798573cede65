"""Writes the migration from the tables as they were to what the models say now, for a person to finish.

python -m tools.new_migration "what changes, in a few words"
"""

import subprocess
import sys
import tempfile

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from cloud.database import load_tables
from cloud.migrating import NEWEST, SCRIPTS


def main(message: str) -> None:
    """Compare a database at the newest migration with the models, and write what differs."""
    load_tables()
    number = f"{int(NEWEST) + 1:04}"
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/scratch.db")
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, NEWEST)
            command.revision(config, message, autogenerate=True, rev_id=number)
        engine.dispose()
    (written,) = (SCRIPTS / "versions").glob(f"{number}_*.py")
    text = written.read_text()
    # Types as the older migrations name them: with the order of code points, and wide enough, in PostgreSQL.
    text = text.replace("sa.BigInteger().with_variant(sa.Integer(), 'sqlite')", "WHOLE")
    text = text.replace("sa.String().with_variant(sa.String(collation='C'), 'postgresql')", "TEXT")
    text = text.replace("cloud.times.UtcTime()", "sa.DateTime()")
    written.write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", written], check=True)
    print(f"{written}: read and finish it, and set NEWEST in cloud/migrating.py to {number!r}")


if __name__ == "__main__":
    main(sys.argv[1])
