"""Everything between us and the engine: its HTTP client, it as a child process, our small own one.

Nothing here imports torch, except inside `ttrl.engine.embedded`, which runs in its own process.
"""
