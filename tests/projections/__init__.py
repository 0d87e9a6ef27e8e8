"""Tests of the read tables: what the projector makes of a log, how it is caught up, what is answered from it."""
