"""Orders checked with pydantic: all threads read one input, which nobody changes."""

from __future__ import annotations

import datetime
import json

from pool import pooled
from pydantic import BaseModel, Field

from throughput import parse_options


class Item(BaseModel):
    """A line of an order."""

    article: str
    pieces: int = Field(gt=0)
    price: float
    tags: list[str] = []


class Order(BaseModel):
    """An order."""

    id: int
    customer: str
    when: datetime.datetime
    items: list[Item]


ITEMS = [{"article": f"a{n}", "pieces": n + 1, "price": n * 1.5, "tags": ["a", "b"]} for n in range(10)]
TEXT = json.dumps({"id": 1, "customer": "Ann", "when": "2026-01-02T03:04:05", "items": ITEMS})
DATA = json.loads(TEXT)


def check(number: int) -> None:
    """Five hundred orders."""
    for _ in range(500):
        Order.model_validate(DATA).model_dump()
        Order.model_validate_json(TEXT).model_dump_json()


if __name__ == "__main__":
    pooled(check, parse_options(__doc__), unit="orders", of_job=500)
