"""Session, KV cache, sampler, stop, generate."""
