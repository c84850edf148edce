"""What CPython keeps in its memory: runtime, objects, threads, stacks, code."""
