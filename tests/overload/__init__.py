"""More than there is room for: floods, late deadlines, long histories, poison, receivers down.

    python -m tests.overload [SCENARIO …] [--full] [--json]

Each scenario checks its promises itself and gives the figures; ``tests/runtime/test_overload.py``
runs all of them at small sizes. Next to read: ``common.py``, then a scenario.
"""
