"""Benchmarks: each prints figures beside a baseline measured in the same run. Never a test, never a limit.

Run all with `python -m bench`, or one with `python -m bench.<name>`. Timings are CPU time of this process.
"""
