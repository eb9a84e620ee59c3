"""What a benchmark found, and the one printer for it.

Next to read: ``measure.py``, where the values come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TextIO

__all__ = ["Figure", "Ratio", "Result", "print_json", "print_text"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value: the median of its rounds."""

    name: str
    value: float
    unit: str
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ratio:
    """A value relative to another of the same run. ``target`` None: shown, not judged.

    Below ``floor`` the value cannot be true: the limit was disturbed, and the target is not met.
    """

    name: str
    value: float
    target: float | None = None
    at_least: bool = True
    floor: float = 0.0

    @property
    def is_plausible(self) -> bool:
        """The value is one that can be."""
        return self.value >= self.floor

    @property
    def passed(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        if not self.is_plausible:
            return False
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(slots=True)
class Result:
    """One benchmark's figures and ratios; ``notes`` say what exactly was measured."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """No ratio misses its target."""
        return all(ratio.passed is not False for ratio in self.ratios)


def print_json(result: Result, settings: Mapping[str, object], out: TextIO) -> None:
    """One line, one object."""
    shown = asdict(result)
    for ratio, entry in zip(result.ratios, shown["ratios"], strict=True):
        entry["passed"] = ratio.passed
    print(json.dumps({**shown, "passed": result.passed, "settings": settings}), file=out)


def print_text(result: Result, out: TextIO) -> None:
    """Aligned lines for people."""
    print(f"\n{result.name}", file=out)
    labels = [figure.name for figure in result.figures] + [ratio.name for ratio in result.ratios]
    width = max(map(len, labels), default=0)
    for figure in result.figures:
        spread = ""
        if len(figure.rounds) > 1:
            spread = f"  ({_number(min(figure.rounds))} to {_number(max(figure.rounds))})"
        number = f"{_number(figure.value):>10} {figure.unit}"
        print(f"  {figure.name:<{width}}  {number}{spread}", file=out)
    for ratio in result.ratios:
        print(f"  {ratio.name:<{width}}  {ratio.value:>10.3f} x{_verdict(ratio)}", file=out)
    for note in result.notes:
        print(f"  . {note}", file=out)
    out.flush()


def _verdict(ratio: Ratio) -> str:
    if ratio.target is None:
        return ""
    if not ratio.is_plausible:
        return f"  IMPLAUSIBLE: below {ratio.floor:g}, the limit was disturbed; run it again"
    sign = ">=" if ratio.at_least else "<="
    return f"  must be {sign} {ratio.target:g}: {'pass' if ratio.passed else 'FAIL'}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
