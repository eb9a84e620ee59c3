"""Repair by hand, with who and why: ``runtime.repair``.

A repair's way: ``repair.py`` → ``measures.py`` (what is to be done) → ``mending.py`` (shown, or
written) → ``instances/stepping_in.py``, its turn.
"""
