"""Other programs that look at a process: py-spy and memray."""
