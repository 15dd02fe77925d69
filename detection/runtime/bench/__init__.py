"""Benchmarks of a model file on this machine: latency, throughput, start, memory, energy, safe speed."""
