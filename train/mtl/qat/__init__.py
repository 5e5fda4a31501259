"""Fine-tuning with the rounding of integers in the loop: the deploy graph as a trainable network, and the way back."""
