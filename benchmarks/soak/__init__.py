"""Hours of traffic while everything goes wrong: `python -m benchmarks.soak [--short]`."""
