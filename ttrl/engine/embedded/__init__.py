"""A small engine over transformers, for trying and testing on a laptop: the part of vLLM's HTTP
API that we use, with the same JSON, errors and adapter semantics. Needs the `train` extra."""
