"""Makes and checks ftdiag's tables of facts about a version of CPython, from its headers and its interpreter.

In: a directory of installed headers with the internal ones, and an interpreter of the same version. Out: a
module of `ftdiag.cpython`, or the facts in which such a module differs from them.
"""
