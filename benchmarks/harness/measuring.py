"""Measure sides in alternation, and compare them round by round.

1. Each round measures every side once. A disturbance of the machine that lasts longer than a round
   therefore slows all sides; a shorter one widens the quartiles.
2. The first round warms up and is not counted.
3. Ratios are taken within each round.
4. Garbage is collected before each measurement, so that a side never pays for the garbage of
   another side. While a side is measured, it pays for its own.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeAlias, TypeVar

Key = TypeVar("Key", bound=Hashable)

Measure: TypeAlias = Callable[[int], Awaitable[float]]
"""A function that measures one side once; its argument is the number of the round."""


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The median, and the quartiles around it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """The measurements of one side in one case.

    Attributes:
        case: Circumstances of the measurement, such as the length of the history.
        side: Name of the side.
        unit: Unit of the values; empty for ratios.
        rounds: Value of each round.
    """

    case: str
    side: str
    unit: str
    rounds: Sequence[float]


def items_case(items: int) -> str:
    """Return the name of the case of a session of *items* items."""
    return f"{items:,} items"


def rounds_of(series: Sequence[Series], side: str, case: str) -> Sequence[float]:
    """Return the values of *side* in *case*."""
    return next(each.rounds for each in series if each.side == side and each.case == case)


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the median and quartiles of *values*; all three are equal for a single value."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    return Quartiles(*quantiles(values, n=4, method="inclusive"))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the quotient of each round."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def lowest(series: Sequence[Series]) -> Series:
    """Return the series with the lowest median."""
    return min(series, key=lambda each: median(each.rounds))


def highest(series: Sequence[Series]) -> Series:
    """Return the series with the highest median."""
    return max(series, key=lambda each: median(each.rounds))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of the sorted *values* precede, at most the highest value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def alternate(
    measures: Mapping[Key, Measure], rounds: int, show: Callable[[int], None]
) -> dict[Key, list[float]]:
    """Measure each side once per round; return each side's values without the first round.

    Args:
        measures: Measure of each side.
        rounds: Number of rounds that count.
        show: Function that displays the number of the round; 0 is the warm-up.
    """
    measured: dict[Key, list[float]] = {key: [] for key in measures}

    # Collections skip the imported modules of all peers, since no user imports all of them.
    gc.freeze()

    for number in range(rounds + 1):
        show(number)
        for key, measure in measures.items():
            gc.collect()
            value = await measure(number)
            if number:
                measured[key].append(value)

    return measured
