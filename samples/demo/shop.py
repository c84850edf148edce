"""The program of `ftdiag demo`: a shop whose threads all wait for one of them, which asks the warehouse."""

from __future__ import annotations

import os
import threading
import time

WORKERS = 8
ARTICLES = 5_000
KEPT = 500
WAREHOUSE_S = 0.004


class PriceCache:
    """Looks simple and safe: one lock around a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prices: dict[int, list[float]] = {}

    def prices(self, article: int) -> list[float]:
        """The prices of an article by quantity; asked for once, then kept."""
        with self._lock:
            prices = self._prices.get(article)
            if prices is None:
                prices = self._ask_warehouse(article)
                self._prices[article] = prices
            return prices

    def _ask_warehouse(self, article: int) -> list[float]:
        # Under the lock: who misses has everybody wait for the answer, also those who would hit.
        time.sleep(WAREHOUSE_S)
        if len(self._prices) >= KEPT:
            self._prices.clear()
        return [article * 0.01 * (1.0 - 0.001 * quantity) for quantity in range(200)]


def price_order(cache: PriceCache, number: int) -> float:
    """The total of one order of a few articles."""
    total = 0.0
    for line in range(6):
        prices = cache.prices((number * 31 + line * 1777) % ARTICLES)
        total += sum(price * line for price in prices)
    return round(total, 2) + shipping(number)


def shipping(number: int) -> float:
    """The cheapest way to pack an order: work of this thread alone, without a lock."""
    best = float(number)
    for box in range(1, 20_000):
        cost = (number * box) % 9_973 + box * 0.001
        best = min(best, cost)
    return best


def serve_orders(cache: PriceCache, worker: int, sold: list[float]) -> None:
    """The body of a worker thread."""
    number = worker * 7919
    while True:
        sold.append(price_order(cache, number))
        number = (number + 13) % 1_000_003
        if len(sold) > 50_000:
            sold.clear()


def main() -> None:
    """Serve until killed."""
    cache = PriceCache()
    for worker in range(WORKERS):
        thread = threading.Thread(
            target=serve_orders, args=(cache, worker, []), name=f"order-worker-{worker}", daemon=True
        )
        thread.start()
    print("ready", os.getpid(), flush=True)
    while True:
        time.sleep(1.0)


if __name__ == "__main__":
    main()
