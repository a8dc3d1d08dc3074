"""Sealing what concerns a person: a data key per subject and section, wrapped under a key derived from the master secret.

:mod:`secrets` derives the bus's keys, :mod:`keys` keeps the wrapped data keys in PostgreSQL, :mod:`sections` seals and opens,
:mod:`pseudonym` and :mod:`digest` name a person and recognise a repeat without saying who, :mod:`jwe` seals to somebody else's
public key. What this protects from and what not: ``docs/explanation/privacy.md``.
"""
