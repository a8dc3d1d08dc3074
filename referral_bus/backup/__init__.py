"""Backups: the topics of a bus and what its services keep in the database, as files, and back from them."""
