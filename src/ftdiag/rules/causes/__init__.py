"""Why a program does not scale: one cause, one rule, one file, with the `RULE` that the registry takes.

In: `Facts`. Out: verdicts, with prose of their own.
"""
