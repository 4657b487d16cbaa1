"""Whatever the user brings -> a checked batch."""
