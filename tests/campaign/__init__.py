"""Campaigns: many runs of what goes wrong in the field, bounded by a count and a time, a module each."""
