"""A command from the commit to its result: queues, attempts, leases, retries, mail between sagas.

A command's way: ``dispatcher.py`` → ``runner.py`` → ``workers.py`` → ``attempt.py`` →
``settling.py`` → ``telling.py``; to a saga in place of a worker: ``saga_mail.py``.
"""
