"""The edge, where awaits live: what turns, commits and time make of each other.

    runtime.py, ref.py       what a service calls          lifecycle.py, running.py  start, stop
    routing.py, delivery.py  from message to instance      services.py               what all share
    elsewhere.py, errands.py what another runtime owns

    instances/  supervisor, incarnations, what waits       looking/    questions; nobody is woken
    jobs/       commands, workers, mail between sagas      repair/     by hand, with who and why
    letters/    what could not be processed                retention/  what has ended goes
                                                           watching/   observers, logs, traces

A message's way: ``ref.py`` or ``runtime.py`` → ``routing.py`` → ``instances/supervisor.py`` →
(``instances/rehydration.py``) → ``instances/saga_actor.py`` → ``core/turn.py`` →
``store/group_commit.py`` → reply. A command's way from there: ``jobs/dispatcher.py`` →
``jobs/runner.py`` → ``jobs/workers.py`` → ``jobs/attempt.py`` → ``jobs/settling.py`` →
``jobs/telling.py`` → ``instances/supervisor.py``, where its result is a message.
"""
