"""The pure heart: what one message does to one instance.

No asyncio, clock, randomness, logging or I/O.

Start reading at ``turn.py``.
"""
