"""Sweeps over numbers of threads, layouts and interpreters, and what two of them, or two recordings, differ
in.

In: runs that were measured, recordings of them. Out: values for reports and the cockpit. Nothing here
starts a process or reads a clock: `commands` does.
"""
