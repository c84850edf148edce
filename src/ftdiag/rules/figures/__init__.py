"""What was measured of patterns, of their remedies and of memory, on each version of CPython.

In: the tables beside, which programs of bench/ write. Out: figures, in numbers and in words.
"""
