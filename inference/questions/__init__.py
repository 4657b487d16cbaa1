"""What some families can be asked: hidden states, conditional probabilities, importance."""
