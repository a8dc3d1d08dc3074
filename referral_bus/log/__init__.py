"""The log: the port (:mod:`port`), Kafka (:mod:`kafka`), an in-memory cluster for tests (:mod:`memory`), the topics."""
