"""How everything is measured: the sides take turns, and the ratio is taken round by round.

What disturbs the machine for longer than a round disturbs all sides; what is shorter ends in the
quartiles. The first round warms up and does not count. Before each measure garbage is collected, so
that a side pays for collecting its own while it is measured, and for nobody else's.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)

Measure: TypeAlias = Callable[[int], Awaitable[float]]
"""Measures one side once, given the number of the round."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the quartiles around it."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """What was measured of one side, round by round.

    Attributes:
        case: Under which circumstances, such as an age.
        side: Whose it is.
        unit: What it is in.
        rounds: What each round gave.
    """

    case: str
    side: str
    unit: str
    rounds: Sequence[float]


def spread(values: Sequence[float]) -> Spread:
    """The quartiles of *values*; of a single one, itself."""
    if len(values) == 1:
        return Spread(*values, *values, *values)
    return Spread(*quantiles(values, n=4, method="inclusive"))


def ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round, how many times the *others* the *ones* are."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def least(series: Sequence[Series]) -> Series:
    """That with the lowest median."""
    return min(series, key=lambda each: median(each.rounds))


def most(series: Sequence[Series]) -> Series:
    """That with the highest median."""
    return max(series, key=lambda each: median(each.rounds))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that *share* of *values* are at most: one of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def alternate(
    measures: Mapping[K, Measure], rounds: int, told: Callable[[int], None]
) -> dict[K, list[float]]:
    """Measure each side once a round, in turn; by side, what each round but the first gave."""
    measured: dict[K, list[float]] = {side: [] for side in measures}
    gc.freeze()  # the modules of all peers, which nobody has together
    for number in range(rounds + 1):
        told(number)
        for side, measure in measures.items():
            gc.collect()
            value = await measure(number)
            if number:
                measured[side].append(value)
    return measured
