"""What is added from outside, as another distribution would add it."""
