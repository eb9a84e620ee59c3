"""What happened in a run, with virtual times: to be hashed, and to be read by people.

Texts in it must not depend on the machine: no addresses, paths, process ids or wall times.
Next to read: ``machine.py``, which writes most of it.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

__all__ = ["Trace"]

LINES_SHOWN = 150


class Trace:
    """Notes of one run."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, int, str, str]] = []

    def note(self, at_ns: int, process: int, what: str, about: str = "") -> None:
        """Something happened, in a process, or (0) outside of them."""
        self.notes.append((at_ns, process, what, about))

    def digest(self) -> str:
        """One text for the whole run: equal digests, equal runs."""
        return hashlib.blake2b(repr(self.notes).encode(), digest_size=16).hexdigest()

    def lines(self, is_full: bool = False) -> list[str]:
        """For people; unless full without the boundaries passed, and no more than fits a screen."""
        notes = [note for note in self.notes if is_full or note[2] != "passes"]
        left_out = 0 if is_full else max(0, len(notes) - LINES_SHOWN)
        head = [f"… {left_out} earlier lines"] if left_out else []
        return head + [_line(*note) for note in notes[left_out:]]


def _line(at_ns: int, process: int, what: str, about: str) -> str:
    who = f"process {process}" if process else "world"
    return f"{shown(at_ns):>20}  {who:<10}  {what} {about}".rstrip()


def shown(at_ns: int) -> str:
    """A moment of the run, such as "2 d 00:15:00.000100"."""
    past = timedelta(microseconds=at_ns // 1000)
    seconds = past.seconds
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    days = f"{past.days} d " if past.days else ""
    return f"{days}{clock}.{past.microseconds:06}"
