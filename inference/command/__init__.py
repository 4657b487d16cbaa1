"""What is typed: the `zoo` command."""
