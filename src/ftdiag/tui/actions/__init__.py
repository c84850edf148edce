"""What the keys do, by subject: time, places, files, memray, the filter; each a part of the application."""
