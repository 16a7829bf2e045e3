"""The parts of `python -m benchmarks.learning`: mixtures of questions, arms that learn from them,
what is measured of each, and the table and the plot that come of it."""
