"""Files of other programs: `importers` make recordings of them, `exporters` write them from recordings.

In: a path, or a session on a recording. Out: a recording, or a file. One program or format a file; each is
registered by one line of its package.
"""
