"""From an annotation to its form: the one place that decides what each annotation means.

Anything whose values would not come back as what they were is refused here, once per class. This
module knows no bytes and no versions. Next to read: ``forms.py``, then ``codec.py``.
"""

from __future__ import annotations

import threading
from collections import abc
from collections.abc import Callable
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from perdure.codec.classes import class_form, is_record
from perdure.codec.containers import dict_form, list_form, set_form, tuple_form
from perdure.codec.forms import (
    ATOMS,
    Form,
    any_form,
    atom_form,
    enum_form,
    literal_form,
    scalar_form,
)
from perdure.codec.scalars import SCALARS_OUT, Refused
from perdure.codec.unions import union_form
from perdure.messages import AnyMessage

__all__ = ["Converter"]


class Converter:
    """The forms of annotations, each made once.

        Converter(name_of_class, any_message_form(...)).form(list[OrderLine])

    ``tag_of`` gives a class's stable name for unions; ``any_message`` is the form of the
    annotation of that name. With ``from_outside``, scalars may be written as text (and a timedelta
    as seconds), as in JSON. With ``is_exact``, classes must be read with the very fields they have.
    """

    def __init__(
        self,
        tag_of: Callable[[type], str],
        any_message: Form,
        *,
        from_outside: bool = False,
        is_exact: bool = False,
    ) -> None:
        self._tag_of = tag_of
        self._is_exact = is_exact
        self._any_message = any_message
        self._from_outside = from_outside
        self._forms: dict[Any, Form] = {}
        self._lock = threading.RLock()
        self._any = any_form(from_outside=from_outside)

    def form(self, annotation: Any) -> Form:
        """The form of an annotation; raises ``Refused`` if its values would not come back."""
        # Two threads may ask at once; the other one must not see a class's form half made.
        with self._lock:
            form = self._forms.get(annotation) if isinstance(annotation, abc.Hashable) else None
            if form is None:
                if is_record(get_origin(annotation) or annotation):
                    return self._record(annotation)
                form = self._forms[annotation] = self._make(annotation)
            return form

    def _record(self, annotation: Any) -> Form:
        cls = get_origin(annotation) or annotation

        # Known before it is made, so that a class may contain itself.
        def out(value: Any) -> Any:
            return form.out(value)

        def into(wire: Any, _: object = None) -> Any:
            return form.into(wire)

        form = Form("", out, into, frozenset({cls}))
        self._forms[annotation] = form
        try:
            tag = self._tag_of(cls)
            return class_form(annotation, tag, self.form, form, is_exact=self._is_exact)
        except BaseException:
            del self._forms[annotation]
            raise

    def _make(self, annotation: Any) -> Form:
        if annotation is None or annotation in ATOMS:
            return atom_form(NoneType if annotation is None else annotation)
        if annotation is Any or annotation is object or isinstance(annotation, TypeVar):
            return self._any
        if annotation is AnyMessage:
            return self._any_message
        if isinstance(annotation, NewType):
            return self.form(annotation.__supertype__)
        if hasattr(annotation, "__value__"):  # type X = ..., of Python 3.12
            return self.form(annotation.__value__)
        if annotation in SCALARS_OUT:
            return scalar_form(annotation, from_text=self._from_outside)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return enum_form(annotation)
        return self._generic(annotation, get_origin(annotation) or annotation)

    def _generic(self, annotation: Any, origin: Any) -> Form:
        arguments = get_args(annotation)
        if origin in (Annotated, Final, Required):
            return self.form(arguments[0] if arguments else Any)
        if origin in (Union, UnionType):
            return self._union(arguments)
        if origin is Literal:
            return literal_form(arguments)
        return self._container(origin, arguments)

    def _union(self, arguments: tuple[Any, ...]) -> Form:
        literals = [argument for argument in arguments if get_origin(argument) is Literal]
        members = [self.form(argument) for argument in arguments if argument not in literals]
        if literals:
            members.append(literal_form(tuple(v for one in literals for v in get_args(one))))
        return union_form(members)

    def _container(self, origin: Any, arguments: tuple[Any, ...]) -> Form:
        if origin is list:
            return list_form(arguments, self.form)
        if origin is tuple:
            return tuple_form(arguments, self.form)
        if origin in (set, frozenset):
            return set_form(origin, arguments, self.form)
        if origin in (dict, abc.Mapping, abc.MutableMapping):
            return dict_form(arguments, self.form)
        inner: Any = arguments[0] if arguments else Any
        if origin in (abc.Sequence, abc.Collection, abc.Iterable):
            return union_form([self.form(list[inner]), self.form(tuple[inner, ...])])
        if origin is abc.Set:
            return union_form([self.form(set[inner]), self.form(frozenset[inner])])
        raise Refused(
            f"{getattr(origin, '__name__', None) or origin} values cannot be stored exactly",
            "use a dataclass, or one of the types the documentation of messages lists",
        )
