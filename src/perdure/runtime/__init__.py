"""The edge, where awaits live: the runtime, its supervisor, instances' actors, timers, workers.

A message's way, one file per hop: ``ref.py`` or ``runtime.py`` → ``routing.py`` → ``supervisor.py``
→ (``rehydration.py``) → ``saga_actor.py`` → ``core/turn.py`` → ``store/group_commit.py`` → reply.
A command's way from there: ``dispatcher.py`` → ``runner.py`` → ``workers.py`` → ``attempt.py`` →
``settling.py`` → ``telling.py`` → ``supervisor.py``, where its result is a message.
"""
