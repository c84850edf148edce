"""Development tools of the project. None of this is in the wheel."""
