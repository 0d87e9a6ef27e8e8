"""Built-in sources: files of several kinds, and none."""
