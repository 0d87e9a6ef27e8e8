"""What is asked of the project, by id."""
