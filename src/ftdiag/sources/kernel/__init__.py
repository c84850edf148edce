"""What the kernel tells of a process: files of /proc, memory, counters, samples, permissions."""
