"""Alembic's entry: runs the migrations on the connection that resources.store.migrate hands over."""

from alembic import context

from resources.store.migrate import VERSION_SCHEMA

context.configure(connection=context.config.attributes["connection"], version_table_schema=VERSION_SCHEMA)
with context.begin_transaction():
    context.run_migrations()
