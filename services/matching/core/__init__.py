"""The pure part: ``decide(state, submission, now) -> events`` and the fold of the events. It reads no clock, no file and no network.

:mod:`decide` answers submissions, :mod:`match` pairs a referral with a service, :mod:`fold` is what the ledger means, :mod:`state` what
is remembered of it.
"""
