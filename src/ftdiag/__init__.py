"""ftdiag: why does this free-threaded Python process not scale, and what to change."""

__version__ = "0.1.0"
