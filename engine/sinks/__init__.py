"""Built-in sinks: files that can be cut back."""
