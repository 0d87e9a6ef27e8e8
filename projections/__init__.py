"""The tellers: read tables built from the log alone, and the questions asked of them.

Why apart from the log: a rebuild cannot touch the record, and readers never wait for the writer.
"""
