"""An order service whose price cache has one lock: every look-up of every thread waits for it."""

from __future__ import annotations

import threading

from throughput import Tally, parse_options, run

ARTICLES = 20_000
ENTRIES_KEPT = 10_000


class PriceCache:
    """Looks simple and safe: one lock around a dictionary, its statistics, and the work on a miss."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prices: dict[int, float] = {}
        self._hits = 0
        self._misses = 0

    def look_up(self, article: int) -> float:
        """The price of an article, computed the first time it is asked for."""
        with self._lock:
            price = self._prices.get(article)
            if price is None:
                self._misses += 1
                price = self._compute_price(article)
                self._keep(article, price)
            else:
                self._hits += 1
            return price

    def _compute_price(self, article: int) -> float:
        # Under the lock: whoever misses makes everybody wait.
        cents = 0
        for factor in range(1, 150):
            cents += (article * factor) % 97
        return cents / 100.0

    def _keep(self, article: int, price: float) -> None:
        if len(self._prices) >= ENTRIES_KEPT:
            self._prices.clear()
        self._prices[article] = price


class OrderService:
    """Prices orders; its threads share nothing but the cache."""

    def __init__(self, cache: PriceCache) -> None:
        self._cache = cache

    def serve_orders(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        cache = self._cache
        number = worker * 7919
        while tally.go_on():
            price_order(cache, number)
            number = (number + 13) % 1_000_003
            tally.done()


def price_order(cache: PriceCache, number: int) -> float:
    """The total of one order: a few look-ups, and a discount that needs no lock."""
    total = 0.0
    for line in range(6):
        total += cache.look_up((number * 31 + line * 1777) % ARTICLES)
    return apply_discounts(total, number)


def apply_discounts(total: float, number: int) -> float:
    """Arithmetic of this thread alone."""
    for step in range(60):
        if (number + step) % 11 == 0:
            total *= 0.999
    return total


if __name__ == "__main__":
    options = parse_options(__doc__, threads=8)
    service = OrderService(PriceCache())
    run([service.serve_orders] * options.threads, options, unit="orders", name="order-worker")
