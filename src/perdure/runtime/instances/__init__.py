"""An instance from its message to its end: supervisor, incarnations, what waits, who is set aside.

A message's way: ``supervisor.py`` → (``rehydration.py``) → ``saga_actor.py`` → ``pending.py``. A
turn that raised goes on in ``failing.py``, what waits in ``waiting.py``, what time brings in
``wakeups.py``, and who is set aside in ``quarantine.py``.
"""
