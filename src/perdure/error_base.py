"""The base of all errors, and of those about declarations. Next to read: ``errors.py``."""

from __future__ import annotations

__all__ = ["DefinitionError", "PerdureError"]


class PerdureError(Exception):
    """Base of all errors of perdure.

    >>> print(InstanceNotFound("no such instance", saga="Order", correlation_id="o-1",
    ...                        remedy="start it"))
    no such instance (saga 'Order', correlation id 'o-1'); start it

    ``saga``, ``correlation_id`` and ``remedy`` are attributes, too; each may be None.
    """

    def __init__(
        self,
        problem: str,
        *,
        saga: str | None = None,
        correlation_id: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.saga = saga
        self.correlation_id = correlation_id
        self.remedy = remedy

    def __str__(self) -> str:
        named = [
            f"{word} {value!r}"
            for word, value in (("saga", self.saga), ("correlation id", self.correlation_id))
            if value is not None
        ]
        text = f"{self.problem} ({', '.join(named)})" if named else self.problem
        return f"{text}; {self.remedy}" if self.remedy else text

    def about(self, saga: str, correlation_id: str | None = None) -> PerdureError:
        """Fill in what the place that raised could not know; returns the error itself."""
        self.saga = self.saga if self.saga is not None else saga
        self.correlation_id = (
            self.correlation_id if self.correlation_id is not None else correlation_id
        )
        return self


class DefinitionError(PerdureError):
    """A saga, message type or setting is declared wrongly."""
