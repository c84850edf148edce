"""A database in memory for each thread: SQLite counts its memory for the whole process, under a mutex."""

from __future__ import annotations

import sqlite3

from throughput import Tally, parse_options, run

QUERY = "select name || '-' || v from t where id > ? and id < ? order by v desc"


def query(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    database.execute("create table t (id integer primary key, name text, v real)")
    rows = [(number, f"name {number}", number / 3) for number in range(2000)]
    database.executemany("insert into t values (?, ?, ?)", rows)
    while tally.go_on():
        for number in range(50):
            database.execute(QUERY, (number, number + 20)).fetchall()
        tally.done(50)
    database.close()


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([query] * options.threads, options, unit="queries", name="query")
