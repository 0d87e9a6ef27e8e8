"""The examples, run as their README says, on the production code."""
