"""Measurements, run by hand: `python -m benchmarks.NAME`. None is part of the tests; docs/scale.md has what
they showed."""
