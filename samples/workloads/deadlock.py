"""Two tellers lock two accounts in opposite order, until each waits for the other; a third works on."""

from __future__ import annotations

import threading
import time

from throughput import Body, Tally, parse_options, run


class Account:
    """An account with a lock of its own."""

    def __init__(self, balance: int) -> None:
        self.lock = threading.Lock()
        self.balance = balance


class Bank:
    """Two accounts, and what is wrong with `transfer`."""

    def __init__(self) -> None:
        self._savings = Account(1000)
        self._current = Account(1000)
        self._closed = False

    def transfer(self, source: Account, target: Account) -> None:
        """Locks what it is given in the order it is given."""
        with source.lock:
            time.sleep(0.02)  # the other teller's chance
            with target.lock:
                source.balance -= 1
                target.balance += 1

    def save(self, worker: int, tally: Tally) -> None:
        """The body of the first teller."""
        while tally.go_on():
            self.transfer(self._current, self._savings)
            tally.done()

    def spend(self, worker: int, tally: Tally) -> None:
        """The body of the second teller."""
        while tally.go_on():
            self.transfer(self._savings, self._current)
            tally.done()

    def compute_interest(self, worker: int, tally: Tally) -> None:
        """The body of the others, which never lock anything."""
        cents = 0
        while tally.go_on():
            for day in range(365):
                cents = (cents * 31 + day) & 0xFF
            time.sleep(0.01)
            tally.done()

    def break_up(self) -> None:
        """Ends the deadlock, for the program to end. Any thread may release a Lock: no example to follow."""
        for account in (self._savings, self._current):
            if account.lock.locked():
                try:
                    account.lock.release()
                except RuntimeError:
                    pass


def quietly(body: Body) -> Body:
    """A teller whose lock was taken from it at the end has no complaint about that."""

    def wrapped(worker: int, tally: Tally) -> None:
        try:
            body(worker, tally)
        except RuntimeError:
            pass

    return wrapped


if __name__ == "__main__":
    options = parse_options(__doc__, threads=3)
    bank = Bank()
    bodies: list[Body] = [quietly(bank.save), quietly(bank.spend)]
    bodies += [bank.compute_interest] * max(1, options.threads - 2)
    run(bodies, options, unit="transactions", name="teller", wake=bank.break_up)
