"""What the numbers of a recording mean: accounts of thread-time, efficiency, hot lines, locks.

In: a `Recording` and a range of window positions. Out: columns and the model's types.
Pure: no clock, no /proc, no file besides the recording.
"""
