"""The runner: reads a pipeline file, moves tokens, and says what happened as events; it keeps no table of its own."""
