"""One run of guide and model, in pieces of bounded memory."""
