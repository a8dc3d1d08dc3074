"""Alembic migrations of the schema ``sealing``."""
