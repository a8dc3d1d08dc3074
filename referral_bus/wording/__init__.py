"""What stands on the ledger, in sentences for those who work with it."""
