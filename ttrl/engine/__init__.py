"""Everything between ttrl and the engine: the client of its HTTP API, vLLM as a child process, what
both may take of the GPU, and the embedded engine.

Nothing here imports torch, except `ttrl.engine.embedded` and `ttrl.engine.memory.figures`, which
run in processes of their own.
"""
