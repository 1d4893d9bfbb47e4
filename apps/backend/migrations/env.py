"""Alembic's entrance: runs the migrations on the connection that `app.schema` hands over."""

from alembic import context

from app.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_name=lambda name, type_, _: type_ != "table" or not str(name).startswith("procrastinate_"),
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
