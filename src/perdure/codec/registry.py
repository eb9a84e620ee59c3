"""Which class stands for a stored type name, and which name a class is stored under.

Names come from ``@message`` or from the runtime, never from import paths, so a class may move.
This module knows no bytes and no fields. Next to read: ``codec.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from perdure.core.described import shown
from perdure.errors import DuplicateMessageType, UnknownType, UnregisteredType
from perdure.messages import TypeInfo, catalogue, type_info_of

__all__ = ["TypeRegistry"]


class TypeRegistry:
    """The type names of one runtime.

        registry = TypeRegistry([OrderPlaced, OrderState])
        registry.of(OrderPlaced).name           # "OrderPlaced"
        registry.named("OrderPlaced").cls       # OrderPlaced

    Every class marked with ``@message`` is known without being added, while its name is unique in
    the process. Entries of the registry itself come first.
    """

    def __init__(self, types: Iterable[type | TypeInfo] = ()) -> None:
        self._by_name: dict[str, TypeInfo] = {}
        self._by_class: dict[type, TypeInfo] = {}
        self._external: set[str] = set()
        self._lock = threading.RLock()
        for entry in types:
            self.add(entry)

    def add(self, entry: type | TypeInfo) -> TypeInfo:
        """Make a class usable here and return its entry.

            registry.add(OrderState)                        # its @message name, or "OrderState", 1
            registry.add(TypeInfo(OrderPlaced, "placed"))   # a second name, for reading old bytes

        A class added under several names is written under the first and read under all.
        Raises ``DuplicateMessageType`` if the name belongs to another class or declaration.
        """
        if isinstance(entry, TypeInfo):
            info = entry
        else:
            info = type_info_of(entry) or TypeInfo(entry, entry.__name__, 1)
        with self._lock:
            known = self._by_name.setdefault(info.name, info)
            if known.cls is not info.cls:
                raise _duplicate(info.name, [known.cls, info.cls])
            if known != info:
                raise DuplicateMessageType(
                    f"{_where(info.cls)} is registered as {info.name!r} twice, with versions "
                    f"{known.version} and {info.version} or different upcasters",
                    remedy="register it once",
                )
            self._by_class.setdefault(info.cls, known)
        return known

    def add_external(self, name: str) -> None:
        """Accept events of this type from outside without a class: they are ``ExternalEvent``.

            registry.add_external("PaymentSettled")

        A class of that name, if there is one, is used instead.
        """
        self._external.add(name)

    def of(self, cls: type) -> TypeInfo:
        """The entry that a class's values are written under.

            registry.of(OrderPlaced).version

        Raises ``UnregisteredType`` for a class without a name, ``DuplicateMessageType`` if its
        name would be read as another class.
        """
        info = self._by_class.get(cls)
        if info is not None:
            return info
        info = type_info_of(cls)
        if info is None and (cls.__module__ == "builtins" or issubclass(cls, type)):
            raise UnregisteredType(
                f"an object of type {cls.__name__} is no message",
                remedy="give an object of a class marked with @message",
            )
        if info is None:
            raise UnregisteredType(
                f"{_where(cls)} has no type name", remedy="decorate the class with @message"
            )
        if info.cls is not cls:
            raise UnregisteredType(
                f"{_where(cls)} is a copy of the class that was marked with @message",
                remedy="write @message above @dataclass(slots=True), not below",
            )
        found = self.named(info.name)
        if found is None or found.cls is not cls:
            raise _duplicate(info.name, [cls, *([found.cls] if found else [])])
        return found

    def named(self, name: str) -> TypeInfo | None:
        """The entry of a type name; None for an external event without a class.

            registry.named("OrderPlaced")

        Raises ``UnknownType`` if there is none, ``DuplicateMessageType`` if several classes were
        marked with it.
        """
        with self._lock:
            info = self._by_name.get(name)
            if info is not None:
                return info
            marked = list(catalogue(name))
            if len(marked) > 1:
                raise _duplicate(name, [one.cls for one in marked])
            if marked:
                # From now on ours: what was read once is read the same way until the end.
                self._by_class.setdefault(marked[0].cls, marked[0])
                return self._by_name.setdefault(name, marked[0])
        if name in self._external:
            return None
        raise UnknownType(
            f"no class for type {shown(name)}",
            remedy="import the module that defines it, or mark the class with "
            f"@message(name={shown(name)})",
        )


def _where(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _duplicate(name: str, classes: Iterable[type]) -> DuplicateMessageType:
    return DuplicateMessageType(
        f"type name {name!r} belongs to {' and '.join(sorted(map(_where, classes)))}",
        remedy="give one of them another name with @message(name=...)",
    )
