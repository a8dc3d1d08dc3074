"""The four services. None imports another; what they share is in :mod:`referral_bus`."""
