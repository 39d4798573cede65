"""The parts of `benchmarks/fleet.py`, one a module: each measures some of its keys."""
