"""Dead letters: made, looked at, sent on their way again.

Next to read: ``redrive.py``.
"""
