"""Figures, each measured beside a peer in the same run, on the same broker and the same cores.

``python -m benchmarks [figure ...] [--quick] [--runs N]``. A figure is a ratio beside something else in one run, or a count (lost, twice);
nothing here is a test, and nothing asserts a time.
"""
