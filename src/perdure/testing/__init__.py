"""Shipped for tests: a clock that tests advance, and the conformance suite for stores.

Nothing of perdure imports this package.
"""
