"""The metrics of one registry under one prefix, of one runtime or several, as families.

prometheus-client asks a registered collector for whole families; several runtimes in one registry
must therefore share one collector. Each of them then has constant labels that tell it from the
others. Next to read: ``prometheus.py``, whose objects are the parts of an exposition.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from perdure.errors import DefinitionError
from perdure.ops.families import FAMILIES, Family
from perdure.ops.spread import Spread

__all__ = ["Exposition", "Samples", "Source", "join", "leave", "sources_of"]

Samples = Mapping[str, Mapping[tuple[str, ...], Any]]
"""Values by family and the values of its labels: a number, or a ``Spread``."""

_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OURS = frozenset(label for family in FAMILIES.values() for label in family.labels)


class Source(Protocol):
    """A runtime's part of an exposition."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its constant labels."""
        ...

    def samples(self) -> Samples:
        """What is to be shown now; called on any thread."""
        ...


class Exposition(Collector):
    """All sources of one registry and prefix."""

    def __init__(self, prefix: str) -> None:
        self.sources: list[Source] = []
        self._prefix = prefix

    def describe(self) -> Iterator[Metric]:
        """The families, empty: registering reads no store."""
        for family in FAMILIES.values():
            yield self._family(family, ())

    def collect(self) -> Iterator[Metric]:
        """The families with the samples of all sources."""
        sources = list(self.sources)
        names = tuple(sources[0].labels) if sources else ()
        found = [(tuple(one.labels[name] for name in names), one.samples()) for one in sources]
        for family in FAMILIES.values():
            shown = self._family(family, names)
            for constant, samples in found:
                for values, value in samples.get(family.name, {}).items():
                    labels = [*constant, *values]
                    if isinstance(value, Spread):
                        shown.add_metric(labels, value.buckets(), value.sum)
                    else:
                        shown.add_metric(labels, value)
            yield shown

    def _family(self, family: Family, names: tuple[str, ...]) -> Any:
        name, labels = f"{self._prefix}_{family.name}", [*names, *family.labels]
        return _KINDS[family.kind](name, family.help, labels=labels)

    def check(self, labels: Mapping[str, str]) -> None:
        """Raises ``DefinitionError`` if another source could not be told from these labels."""
        for other in self.sources:
            if set(other.labels) != set(labels) or dict(other.labels) == dict(labels):
                raise DefinitionError(
                    f"a runtime has its metrics under the prefix {self._prefix!r} in this registry "
                    f"already, with the labels {dict(other.labels)}",
                    remedy='tell them apart with labels={"runtime": …} on each, or give another '
                    "prefix or registry; the metrics of a runtime are made once",
                )


_KINDS: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}

_lock = threading.Lock()
_expositions: WeakKeyDictionary[CollectorRegistry, dict[str, Exposition]] = WeakKeyDictionary()


def join(registry: CollectorRegistry, prefix: str, source: Source) -> None:
    """Show this source, too. Raises ``DefinitionError`` for a name that is none, or is taken."""
    _check_names(prefix, source.labels)
    with _lock:
        known = _expositions.setdefault(registry, {})
        exposition = known.get(prefix) or Exposition(prefix)
        exposition.check(source.labels)
        if prefix not in known:
            try:
                registry.register(exposition)
            except ValueError as error:
                raise DefinitionError(
                    f"the registry has metrics of these names already: {error}",
                    remedy="give another prefix, or another registry",
                ) from error
            known[prefix] = exposition
        exposition.sources.append(source)


def leave(registry: CollectorRegistry, prefix: str, source: Source) -> None:
    """Show this source no more; the last one takes the collector along."""
    with _lock:
        known = _expositions.get(registry, {})
        exposition = known.get(prefix)
        if exposition is None or source not in exposition.sources:
            return
        exposition.sources = [one for one in exposition.sources if one is not source]
        if not exposition.sources:
            del known[prefix]
            registry.unregister(exposition)


def sources_of(registry: CollectorRegistry) -> list[Source]:
    """All that a scrape of this registry shows, under any prefix."""
    with _lock:
        known = list(_expositions.get(registry, {}).values())
        return [source for exposition in known for source in exposition.sources]


def _check_names(prefix: str, labels: Mapping[str, str]) -> None:
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise DefinitionError(
            f"the prefix {prefix!r} is no name of a metric",
            remedy="use letters, digits and underscores, and begin with a letter",
        )
    for name, value in labels.items():
        is_name = isinstance(name, str) and _LABEL.fullmatch(name) and not name.startswith("__")
        if not is_name or name in _OURS or name == "le" or not isinstance(value, str):
            raise DefinitionError(
                f"the label {name!r}: {value!r} cannot be used",
                remedy="give texts by names of letters, digits and underscores, none of "
                + ", ".join(sorted(_OURS | {"le"})),
            )
