"""Formulas that are text until they are compiled at run time: their constants are counted by all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from throughput import Tally, parse_options, run

FORMULA = """
def price(amount, steps):
    for _ in range(steps):
        amount = (amount * 1103515245 + 12345) & 0x3FFFFFFF
    return amount
"""


def compile_formula(text: str) -> Callable[[int, int], int]:
    """What a template engine or a rule engine does."""
    names: dict[str, Any] = {}
    exec(compile(text, "<formula>", "exec"), names)  # noqa: S102 - the point of the example
    formula: Callable[[int, int], int] = names["price"]
    return formula


class Prices:
    """One compiled formula for everybody."""

    def __init__(self) -> None:
        self._formula = compile_formula(FORMULA)

    def compute_prices(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        evaluate(self._formula, tally)


def compute_prices_with_own_formula(worker: int, tally: Tally) -> None:
    """The same, compiled by each thread for itself."""
    evaluate(compile_formula(FORMULA), tally)


def evaluate(formula: Callable[[int, int], int], tally: Tally) -> None:
    """Evaluates again and again."""
    amount = 1
    while tally.go_on():
        amount = formula(amount, 1000)
        tally.done(1000)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="each thread compiles the formula for itself")
    if options.fixed:
        body = compute_prices_with_own_formula
    else:
        body = Prices().compute_prices
    run([body] * options.threads, options, unit="prices", name="pricing")
