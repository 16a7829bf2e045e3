"""A question: what makes it one, what is like it, how users sampled it."""
