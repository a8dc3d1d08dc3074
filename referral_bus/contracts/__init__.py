"""The messages of the bus as pydantic models, and the words they use.

Each folder of ``schemas/avro`` has its module here: :mod:`inbox`, :mod:`ledger`, :mod:`reference`, :mod:`delivery`,
:mod:`feed`, :mod:`disclosure`, :mod:`deadletter`. :mod:`requests` holds what agencies and providers send before it is sealed,
:mod:`facts` the two sealed sections. A test holds models and ``.avsc`` files equal. Nothing here does any work.
"""
