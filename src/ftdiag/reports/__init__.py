"""Reports of a `Snapshot`: text for people and screen readers, JSON for machines.

In: a snapshot. Out: lines or plain values; nothing here prints.
"""
