"""Who repairs, why, and how it is to be done this time. Next to read: ``repair.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from perdure.errors import DefinitionError

__all__ = ["Said"]

SAID_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Said:
    """Who repairs, and why; and how it is to be done this time."""

    by: str
    why: str
    dry_run: bool = False
    expected: int | None = None
    message_id: str | None = None

    @classmethod
    def of(cls, by: str, why: str) -> Self:
        """Raises ``DefinitionError`` for who does not say who, or why."""
        for name, text in (("by", by), ("why", why)):
            if not isinstance(text, str) or not text.strip() or len(text) > SAID_CHARS_MAX:
                raise DefinitionError(
                    f"{name}={text!r:.80} does not say {'who repairs' if name == 'by' else name}",
                    remedy=f"give a text of up to {SAID_CHARS_MAX} characters: it is journaled",
                )
            if not text.isprintable():
                raise DefinitionError(
                    f"{name}={text!r:.80} has characters that cannot be printed",
                    remedy="give it in one plain line",
                )
        return cls(by, why)

    @property
    def fields(self) -> tuple[str, str, bool, int | None, str | None]:
        """All of it, in order."""
        return self.by, self.why, self.dry_run, self.expected, self.message_id

    def under(self, new_id: Callable[[], str]) -> Said:
        """The same under some message id, so that it is done once however often it is asked."""
        return self if self.message_id or self.dry_run else replace(self, message_id=new_id())

    def how(self, dry_run: bool, expected: int | None, message_id: str | None) -> Said:
        """The same, done so."""
        if expected is not None and (type(expected) is not int or expected < 1):
            raise DefinitionError(
                f"expected is {expected!r}", remedy="give the sequence number you have seen"
            )
        return replace(self, dry_run=bool(dry_run), expected=expected, message_id=message_id)
