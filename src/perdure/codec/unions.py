"""Forms of Optional and unions: what is read back is told apart by the bytes alone.

None, numbers, text, bytes and the scalars tell their class themselves. Every other member (each
dataclass, enum and container) is written as ``[tag, content]``; the tag of a class is its stable
type name, else its class name. ``X | None`` needs no tag. Next to read: ``classes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

from perdure.codec.forms import Form, refuse
from perdure.codec.scalars import Refused

__all__ = ["union_form"]


def union_form(members: list[Form]) -> Form:
    """The form of a union of these; with ``Any`` among them, the form of ``Any``."""
    others = [member for member in members if member.kinds != {NoneType}]
    for member in others:
        if member.alone and len(others) > 1:
            raise Refused(
                f"{member.tag} is in a union with something else than None",
                f"leave the others out: {member.tag} holds any message",
            )
    for member in members:
        if not member.kinds:
            return member
    if len(others) == 1 and len(members) == 2 and not others[0].wraps_none:
        return _optional_form(others[0])
    return _Union(members).form()


def _optional_form(inner: Form) -> Form:
    write, read = inner.out, inner.into

    def out(value: Any) -> Any:
        return None if value is None else write(value)

    def into(wire: Any, _: object = None) -> Any:
        return None if wire is None else read(wire)

    return Form(
        inner.tag,
        out,
        into,
        inner.kinds | {NoneType},
        telling=inner.telling,
        keyed=inner.keyed,
        wraps_none=True,
        alone=inner.alone,
        parts_out=lambda value: () if value is None else inner.parts_out(value),
        parts_in=lambda wire: () if wire is None else inner.parts_in(wire),
    )


class _Union:
    """A union that needs its members told apart."""

    def __init__(self, members: list[Form]) -> None:
        self.by_kind: dict[type, Form] = {}
        self.telling: dict[type, Form] = {}
        self.tagged: dict[str, Form] = {}
        self.expected = " | ".join(member.tag for member in members)
        for member in sorted(members, key=_precedence):
            self._add(member)

    def _add(self, member: Form) -> None:
        for kind in member.kinds:
            if kind not in self.by_kind:
                self.by_kind[kind] = member
            elif kind is not NoneType and not _may_share(member):
                raise Refused(
                    f"two members of {self.expected} are both a {kind.__name__}",
                    "wrap one of them in a dataclass",
                )
        if member.telling:
            for kind in member.kinds:
                self.telling.setdefault(kind, member)
        elif self.tagged.setdefault(member.tag, member) is not member:
            raise Refused(
                f"two members of a union are both named {member.tag!r}",
                "give them different names with @message(name=...)",
            )

    def form(self) -> Form:
        branches = {
            kind: (None if member.telling else member.tag, member.out)
            for kind, member in self.by_kind.items()
        }
        expected = self.expected

        def out(value: Any) -> Any:
            branch = branches.get(value.__class__)
            if branch is None:
                raise refuse(expected, value)
            tag, write = branch
            return write(value) if tag is None else [tag, write(value)]

        return Form(
            expected,
            out,
            self._reader(),
            frozenset(self.by_kind),
            telling=not self.tagged,
            keyed=not self.tagged,
            wraps_none=NoneType in self.by_kind,
            parts_out=self.parts_out,
            parts_in=self.parts_in,
        )

    def _reader(self) -> Callable[..., Any]:
        readers = {kind: member.into for kind, member in self.telling.items()}
        tagged = {tag: member.into for tag, member in self.tagged.items()}
        expected = self.expected

        def into(wire: Any, _: object = None) -> Any:
            if wire.__class__ is list and len(wire) == 2 and wire[0].__class__ is str:
                read = tagged.get(wire[0])
                if read is not None:
                    return read(wire[1])
            read = readers.get(wire.__class__)
            if read is not None:
                return read(wire)
            return _first_that_reads(readers.values(), expected, wire)

        return into

    def parts_out(self, value: Any) -> Iterable[tuple[str, Form, Any]]:
        member = self.by_kind.get(value.__class__)
        return () if member is None else (("", member, value),)

    def parts_in(self, wire: Any) -> Iterable[tuple[str, Form, Any]]:
        member = self.telling.get(wire.__class__)
        if member is None and wire.__class__ is list and len(wire) == 2:
            member, wire = self.tagged.get(str(wire[0])), wire[1]
        return () if member is None else (("", member, wire),)


def _first_that_reads(readers: Iterable[Callable[..., Any]], expected: str, wire: Any) -> Any:
    """For scalars written as text, from outside; where text is not allowed, all of them refuse."""
    for read in readers:
        try:
            return read(wire)
        except (Refused, ValueError, ArithmeticError):
            continue
    raise refuse(expected, wire)


def _may_share(member: Form) -> bool:
    """``int | float`` and ``str | Literal["a"]`` share a class; the wider one is added first."""
    return member.tag in ("float", "Literal")


def _precedence(member: Form) -> int:
    return {"float": 1, "Literal": 2}.get(member.tag, 0)
