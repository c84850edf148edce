"""Looks at every thread of a target at a fixed rate and writes what it saw."""
