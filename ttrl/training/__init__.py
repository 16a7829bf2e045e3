"""The policy update. `grpo` imports torch, and only processes of a run import it."""
