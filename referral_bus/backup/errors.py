"""What a backup or a restore stops with."""


class BackupError(Exception):
    """It can't go on. The message says what happened, where, and what to do next."""
