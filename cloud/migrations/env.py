"""What Alembic runs to migrate: on the connection that it was given, within that one's transaction."""

from alembic import context

from cloud.migrating import migration_context

context.configure(**migration_context(context.config.attributes["connection"]))
context.run_migrations()
