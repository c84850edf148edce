"""The panes of the cockpit, one a file. Each is fed a `View` and paints the part it is about."""
