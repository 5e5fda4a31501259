"""Finding the factor between predicted and true distances: readings of true distances, and what they say together."""
