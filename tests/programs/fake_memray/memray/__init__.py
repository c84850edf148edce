"""Stands for memray where there is none: its commands ask `tracked.py` to do what memray would."""

__version__ = "1.20.0"
