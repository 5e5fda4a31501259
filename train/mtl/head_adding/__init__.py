"""A new task for a trained bundle: its head is trained alone, on features that the frozen backbone gave once.

What the bundle predicted before it predicts after, bit by bit.
"""
