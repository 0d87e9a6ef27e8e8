"""The rules of the house as pure functions: a file's name and tree in, findings out.

Why apart from `tests/test_house.py`: each rule is run over the project *and* over a counter-example that it must catch.
"""
