"""A real cluster under fire: three brokers, a database and two of each service, struck one after the other while clients go on.

``python -m tests.chaos.cluster run`` (``make chaos``) does it and checks it; ``… check FILE`` checks a kept history again.
"""
