"""Machine code: symbols of files, functions without names, classes of what samples hit."""
