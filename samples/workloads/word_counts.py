"""Words counted by all threads in one dictionary: the interpreter locks it for every update."""

from __future__ import annotations

from throughput import Tally, parse_options, run

# Written out: words made at run time are objects whose references all threads would count besides.
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "then", "sleeps")


def count_words(counts: dict[str, int], tally: Tally) -> None:
    """Counts the same sentence again and again."""
    while tally.go_on():
        for _ in range(20):
            for word in WORDS:
                counts[word] = (counts.get(word, 0) + 1) & 0xFF
        tally.done(20 * len(WORDS))


class WordCounts:
    """One dictionary for everybody."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count_together(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        count_words(self._counts, tally)


def count_apart(worker: int, tally: Tally) -> None:
    """The same with a dictionary of the thread's own; they would be added up at the end."""
    count_words({}, tally)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a dictionary for each thread")
    body = count_apart if options.fixed else WordCounts().count_together
    run([body] * options.threads, options, unit="words", name="counter")
