"""What perdure costs: every figure beside the physical limit measured in the same run.

    python -m benchmarks throughput

Next to read: ``README.md``, then ``measure.py`` and any one benchmark.
"""
