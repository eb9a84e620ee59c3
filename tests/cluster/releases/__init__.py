"""Two releases of one application, as a deployment replaces one by the other.

``one.py`` and ``two.py`` declare the same names, so a process imports one of them: the test itself
is a process of release two, ``process.py`` runs release one. Next to read: ``process.py``.
"""
