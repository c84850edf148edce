"""Provisioning of free-threaded interpreters for development: finds them, or gets them.

In: the environment (`FTDIAG_PYTHONS`, `PATH`, `XDG_CACHE_HOME`), uv, the package index, and on Debian and
Ubuntu the machine's own package mirror. Out: paths of interpreters that were run and verified.
Standard library only, so that it runs before anything is installed:

    python3 -m tools.provision list
    python3 -m tools.provision ensure
    python3 -m tools.provision ensure --series 3.14 --series 3.15
"""
