"""A synthetic county and the people in it, for the demo, the tests and the benchmarks."""
