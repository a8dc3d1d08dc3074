"""A Kafka, a PostgreSQL and the whole bus on one machine, without root and without containers."""
