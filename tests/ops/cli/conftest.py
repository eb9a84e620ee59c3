"""Fixtures of the command line's tests."""

from tests.ops.cli.support import perdure

__all__ = ["perdure"]
