"""Questions to a runtime or a store: how instances are, were, and why they wait. Nobody is woken.

One instance: ``views.py``, ``then.py``, ``history.py``, ``why.py``. Many: ``searching.py``.
"""
