"""The pure part: ``decide(state, submission, now) -> events`` and the fold of the events. It reads no clock, no file and no network.

:mod:`decide` answers submissions, :mod:`judging` says which services take a person and in which order, :mod:`fold` is what the ledger
means, :mod:`state` what is remembered of it.
"""
