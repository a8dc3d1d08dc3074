"""The only writer of the ledger: decides one region at a time, pairs needs with places, and can show how for every decision."""
