"""Builders that the tests share: graphs, logs written by hand, and tampering with what is stored."""
