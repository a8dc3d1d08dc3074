"""What a command says when it can't do what was asked."""


class Rejected(Exception):
    """A command can't do what was asked; the message says why and what to do."""
