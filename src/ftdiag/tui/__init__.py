"""The cockpit: a terminal view of a recording, live or finished.

In: snapshots of a range of a recording (`source.SnapshotSource`). Out: a screen. Nothing here measures.
"""
