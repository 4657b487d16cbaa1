"""The variational fit: what is climbed, and the steps up."""
