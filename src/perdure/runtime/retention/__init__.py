"""Instances that have ended are purged when their time has come.

Next to read: ``purging.py``.
"""
