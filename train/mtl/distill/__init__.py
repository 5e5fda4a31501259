"""Learning from networks besides truths: what an answer is from a teacher's, and features of a backbone that saw real images.

Teachers run without gradients and are no part of the network that is exported.
"""
