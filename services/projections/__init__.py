"""Projections: views of the ledger in PostgreSQL, and the query API over them."""
