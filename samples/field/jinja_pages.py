"""Pages of Jinja with a filter that quotes URLs."""

from __future__ import annotations

from jinja2 import Environment
from pool import pooled

from throughput import parse_options

PAGE = Environment(autoescape=True).from_string(
    "<html><h1>{{ title|upper }}</h1><ul>{% for user in users %}"
    "<li class=\"{{ loop.cycle('odd', 'even') }}\">{{ loop.index }} {{ user.name|title }}"
    ' <a href="{{ user.url|urlencode }}">{{ user.text|truncate(20) }}</a>'
    "{% if user.admin %} admin{% endif %}</li>{% endfor %}</ul></html>"
)
USERS = [
    {"name": f"user {n}", "url": f"/u/{n}?x=<y>", "text": "lorem ipsum " * 5, "admin": n % 3 == 0}
    for n in range(60)
]


def render(number: int) -> None:
    """Twenty pages."""
    for _ in range(20):
        PAGE.render(title="hello <b>", users=USERS)


if __name__ == "__main__":
    pooled(render, parse_options(__doc__), unit="pages", of_job=20)
