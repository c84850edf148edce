"""Targets for benches: services made of libraries that people use. Each counts its work in a shared file.

Usage: service.py KIND THREADS FILE PORT. Says "ready PID". Kinds: waitress (Flask), gunicorn (Django),
sqlalchemy (on SQLite, makes its own work), huey (on SQLite, with its producer). Scratch files go into the
working directory.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SLOTS = 64
"""Threads that can count; each has a word of its own."""


class Counter:
    """Counts operations of many threads in a file that somebody else reads."""

    def __init__(self, name: str) -> None:
        with open(name, "r+b") as shared:
            # One store a word: `struct.pack_into` makes it 0 first, which whoever reads may see.
            self._words = memoryview(mmap.mmap(shared.fileno(), 8 * SLOTS)).cast("q")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._used = 0

    def add(self) -> None:
        """One operation of this thread is done."""
        own = self._own
        try:
            own.count += 1
        except AttributeError:
            with self._lock:
                own.place, own.count = self._used % SLOTS, 1
                self._used += 1
        self._words[own.place] = own.count


def compute(turns: int) -> int:
    """Some arithmetic of a handler."""
    total = 0
    for turn in range(turns):
        total += turn % 7
    return total


def ready() -> None:
    """Say that it works."""
    print(f"ready {os.getpid()}", flush=True)


def waitress(threads: int, counter: Counter, port: int) -> None:
    """Flask on waitress."""
    import flask
    import waitress as server

    app = flask.Flask("service")

    @app.get("/")
    def index() -> Any:
        counter.add()
        users = [{"id": number, "name": f"user {number}"} for number in range(20)]
        return flask.jsonify(users=users, total=compute(2000), question=flask.request.args.get("q"))

    ready()
    server.serve(app, host="127.0.0.1", port=port, threads=threads, _quiet=True)


def gunicorn(threads: int, counter: Counter, port: int) -> None:
    """Django on gunicorn's threads: one worker, which says that it is ready."""
    import django.http
    import django.urls
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from gunicorn.app.base import BaseApplication

    def index(request: Any) -> Any:
        counter.add()
        users = [{"id": number, "name": f"user {number}"} for number in range(20)]
        return django.http.JsonResponse({"users": users, "total": compute(2000)})

    urls = type(sys)("service_urls")
    urls.urlpatterns = [django.urls.path("", index)]  # type: ignore[attr-defined]
    sys.modules["service_urls"] = urls
    settings.configure(ROOT_URLCONF="service_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="bench", MIDDLEWARE=[])
    wsgi = get_wsgi_application()

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            chosen = {
                "bind": f"127.0.0.1:{port}",
                "workers": 1,
                "threads": threads,
                "worker_class": "gthread",
                "loglevel": "error",
                "keepalive": 5,
                "post_worker_init": lambda worker: ready(),
            }
            for name, value in chosen.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return wsgi

    Application().run()


def sqlalchemy(threads: int, counter: Counter, port: int) -> None:
    """Queries through SQLAlchemy's object mapper on SQLite, in a pool of threads."""
    import sqlalchemy as sql
    from sqlalchemy import orm

    Path("service.db").unlink(missing_ok=True)
    base: Any = orm.declarative_base()

    class User(base):  # type: ignore[misc]
        __tablename__ = "users"
        id = sql.Column(sql.Integer, primary_key=True)
        name = sql.Column(sql.String(50))
        posts = orm.relationship("Post")

    class Post(base):  # type: ignore[misc]
        __tablename__ = "posts"
        id = sql.Column(sql.Integer, primary_key=True)
        user_id = sql.Column(sql.ForeignKey("users.id"), index=True)
        body = sql.Column(sql.String)

    engine = sql.create_engine("sqlite:///service.db", connect_args={"timeout": 30})
    base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        posts = [[Post(body="x" * 50) for _ in range(5)] for _ in range(300)]
        session.add_all([User(name=f"user {number}", posts=some) for number, some in enumerate(posts)])
        session.commit()

    def job(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10):
            first = chance.randrange(1, 280)
            with orm.Session(engine) as session:
                some = sql.select(User).where(User.id.between(first, first + 10))
                for user in session.scalars(some.options(orm.selectinload(User.posts))):
                    sum(len(post.body) for post in user.posts)
                session.scalar(sql.select(sql.func.count(Post.id)).where(Post.user_id == first))
            counter.add()

    with ThreadPoolExecutor(threads) as pool:
        ready()
        seed = 0
        while True:
            list(pool.map(job, range(seed, seed + 4 * threads)))
            seed += 4 * threads


def huey(threads: int, counter: Counter, port: int) -> None:
    """Tasks of a queue on SQLite, and the thread that makes them."""
    import logging

    import huey as tasks
    from huey.consumer import Consumer

    for name in ("tasks.db", "tasks.db-wal", "tasks.db-shm"):
        Path(name).unlink(missing_ok=True)
    queue = tasks.SqliteHuey(filename="tasks.db", results=False)

    @queue.task()  # type: ignore[untyped-decorator]
    def work(number: int) -> int:
        counter.add()
        return compute(5000)

    def produce() -> None:
        while True:
            if queue.pending_count() < 200:
                for number in range(100):
                    work(number)
            else:
                time.sleep(0.005)

    logging.getLogger("huey").setLevel(logging.ERROR)
    threading.Thread(target=produce, name="producer", daemon=True).start()
    ready()
    Consumer(
        queue, workers=threads, worker_type="thread", initial_delay=0.01, backoff=1.0, max_delay=0.01
    ).run()


KINDS: dict[str, Callable[[int, Counter, int], None]] = {
    "waitress": waitress,
    "gunicorn": gunicorn,
    "sqlalchemy": sqlalchemy,
    "huey": huey,
}


def main() -> None:
    """Serve until killed."""
    kind, threads, name, port = sys.argv[1:]
    KINDS[kind](int(threads), Counter(name), int(port))


if __name__ == "__main__":
    main()
