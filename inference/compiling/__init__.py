"""A function of tensors as a graph: recording, compiling, and the one fallback."""
