"""The ten promises, measured against real server processes: ``python -m benchmarks.torture [--short] [PROMISE...]``.

One file a promise, or a few that are measured alike; each gives a ``Result``. Pictures, faults and servers are those of
``tests/``. The short form is a test of its own, ``benchmarks/torture/test_short.py``.
"""
