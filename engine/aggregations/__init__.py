"""The built-in aggregations, one a file. Each is an ordinary batch plugin: typed options, a list of rows in, rows out."""
