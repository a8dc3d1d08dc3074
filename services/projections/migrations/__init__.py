"""The migrations of the views' schema, applied in order at start. They take the schema from the context they run in: a rebuild makes
the same tables under another name."""
