"""Exports read by the programs that they are for, where those can be got here; a report of what each said.

In: a recording (default: one that comes with ftdiag). Out: a line a consumer: what it read, or why it was not
run. Usage: python -m tools.consumers [RECORDING]. `go tool pprof` is taken from PATH (Debian: golang-go);
speedscope from npm, into `consumers` of the cache: its own importer is run in Node.js. Status 1 if one of
them refused a file.
"""
