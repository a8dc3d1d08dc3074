"""The migrations of the schema ``notifier``, applied in order at start."""
