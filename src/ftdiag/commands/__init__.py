"""The command line: one subcommand a file. Only here (and in views) do things print.

In: arguments. Out: text on standard output, messages on standard error, an exit status.
"""
