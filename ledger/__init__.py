"""The record: events, their log, the fold that judges them, and the stores that keep them.

Imports nothing else of ours. It is a package, not a folder of modules, so that a folder of the same name in the working
directory is not taken for a part of it.
"""
