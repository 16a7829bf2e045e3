"""What runs on a clock or by hand. `run` is a training run, told from top to bottom."""
