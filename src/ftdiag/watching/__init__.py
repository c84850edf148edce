"""The flight recorder: rings of recordings of one or many processes, kept around what was waited for.

In: which processes, limits, triggers. Out: recordings in one directory, bounded in size and age; figures for
Prometheus and OpenTelemetry; profiles pushed elsewhere. Everything survives the death of any part of it.
"""
