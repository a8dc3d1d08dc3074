"""State in SQL: position and rows in one transaction."""
