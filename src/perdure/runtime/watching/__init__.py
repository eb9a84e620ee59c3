"""What a runtime tells of itself: to observers, logs and traces, and whether it is well.

Next to read: ``observing.py``; ``tracing.py``; ``vitals.py``.
"""
