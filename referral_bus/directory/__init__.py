"""Directories of services in HSDS (the Human Services Data Specification of Open Referral): read, reported
on, published."""
