"""The parts of `benchmarks/device.py`: peers in environments of their own, turns, real embeddings."""
