"""Recordings: one SQLite file that a sampler appends to and any number of views read.

`writer.RecordingWriter` writes one (no numpy), `reader.Recording` reads it as numpy columns, `schema` is
the format of both. Nothing is imported here, so that the sampler does not load the reader.
"""
