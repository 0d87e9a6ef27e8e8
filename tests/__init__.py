"""The tests. A package, so that `tests.engine` is never taken for `engine`."""
