"""Durability. Knows the rows of ``core/commit.py`` and nothing of sagas, codecs' types or actors.

Start reading at ``protocol.py``.
"""
