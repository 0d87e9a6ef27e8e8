"""The built-in transforms, one a file. Each is an ordinary plugin: typed options, a row in, a row out."""
