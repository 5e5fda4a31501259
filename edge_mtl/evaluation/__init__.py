"""What an engine loses: metrics, labelled frames, accuracy budgets, the self-test, sensitivity."""
