"""The daemon's parts: the engine, which version serves, runs, and what happens on a clock."""
