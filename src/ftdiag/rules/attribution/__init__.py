"""Whose code, what line and what object something is, and which rule it is charged to.

In: facts, and what rules claim. Out: frames, holders, lines, shares; `Charges`.
"""
