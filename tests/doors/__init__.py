"""The doors from outside: the command line and the Python API, as a stranger meets them."""
