"""Locks of a process: which one a thread waits for, what it is called, who has it."""
