"""Accuracy of a quantized network against budgets per head."""
