"""Sentences and remedies that several rules have in common.

In: facts and what is charged. Out: text, `Remedy`s, findings put together.
"""
