"""Fields written by older code, brought to the current version one version at a time.

Stored bytes are never rewritten: upcasting happens at each reading, on a fresh dict of plain values
(text, numbers, scalars, lists, dicts), before the class is involved. Next to read: ``codec.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.errors import DecodeError, UnknownVersion
from perdure.messages import TypeInfo

__all__ = ["envelope", "require_map", "upcast"]


def upcast(info: TypeInfo, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as the current version of the class has them.

    Raises ``UnknownVersion`` for a version newer than the code, and for an upcaster that is
    missing, raises or returns something else than a dict.
    """
    if not 1 <= version <= info.version:
        raise UnknownVersion(
            f"{info.name} version {version}: this code knows versions 1 to {info.version}",
            remedy="deploy the newer code" if version > info.version else None,
        )
    for older in range(version, info.version):
        step = f"{info.name} version {version}: the upcaster from {older} to {older + 1}"
        try:
            fields = info.upcasters[older](fields)
        except Exception as error:
            missing = older not in info.upcasters
            raise UnknownVersion(
                f"{step} is missing"
                if missing
                else f"{step} raised {type(error).__name__}: {error}"
            ) from error
        if fields.__class__ is not dict:
            raise UnknownVersion(f"{step} returned a {type(fields).__name__}, not a dict")
    return fields


def require_map(name: str, fields: Any) -> None:
    """Raise ``DecodeError`` unless these can be fields or external data."""
    if fields.__class__ is not dict:
        raise DecodeError(f"{name}: expected a map of fields, got {type(fields).__name__}")


def envelope(mapping: Mapping[str, Any]) -> tuple[str, int | None, dict[str, Any]]:
    """Type name, version and data of an event from outside; ``DecodeError`` if it has no such."""
    if not isinstance(mapping, Mapping):
        raise DecodeError(
            f"an event from outside is a {type(mapping).__name__}, not a mapping",
            remedy='give {"type": ..., "data": {...}}',
        )
    name, version, data = mapping.get("type"), mapping.get("version"), mapping.get("data")
    if name.__class__ is not str:
        raise DecodeError("an event from outside has no 'type'", remedy="name its message type")
    if not isinstance(data, Mapping):
        raise DecodeError(f"{name}: the event has no 'data'", remedy="give a mapping of its fields")
    if version is not None and version.__class__ is not int:
        raise DecodeError(f"{name}: 'version' is a {type(version).__name__}, not an int")
    return str(name), version, dict(data)
