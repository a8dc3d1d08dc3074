"""The migrations of the schema ``intake``, applied in order at start."""
