"""What may be shown to whom, and the record of what was."""
