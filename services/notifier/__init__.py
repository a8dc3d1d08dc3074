"""The notifier: who hears of what on the ledger, and that they do. A stream processor, a database, three channels."""
