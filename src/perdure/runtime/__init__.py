"""The edge, where awaits live: the runtime, its supervisor, the actors of instances, timers.

A message's way, one file per hop: ``ref.py`` or ``runtime.py`` → ``routing.py`` → ``supervisor.py``
→ (``rehydration.py``) → ``saga_actor.py`` → ``core/turn.py`` → ``store/group_commit.py`` → reply.
"""
