"""Allocates many small objects by way of many stacks until its own capture has so many bytes.

In: the path of the capture, bytes, the number of threads. Run by bench/memray_capture.py, under memray.
"""

import os
import random
import sys
import threading

path, wanted, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def floats(number):
    return [float(each) for each in range(number)]


def words(number):
    return [str(each + 1000) for each in range(number)]


def pairs(number):
    return {each: (each,) for each in range(number)}


def texts(number):
    return [bytes(number + each) for each in range(number)]


LEAVES = [floats, words, pairs, texts]


def way(depth, chance):
    if depth == 0:
        return chance.choice(LEAVES)(20)
    if chance.random() < 0.5:
        return way(depth - 1, chance)
    return way(depth - 1, chance)  # another line: another stack


def work(seed):
    chance = random.Random(seed)
    kept = []
    # Blocks: memray makes the file longer ahead of what it writes.
    while os.stat(path).st_blocks * 512 < wanted:
        for _ in range(200):
            made = way(chance.randrange(8), chance)
            if chance.random() < 0.05:
                kept.append(made)
                if len(kept) > 2000:
                    del kept[chance.randrange(len(kept))]


workers = [threading.Thread(target=work, args=(seed,), name=f"worker-{seed}") for seed in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
