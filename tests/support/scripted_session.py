"""A session that says what it was told to say, whatever it is given: for tests of the loop alone."""

import numpy as np

from fastslm.engine.kv_cache import CacheShape, KVCache


class ScriptedSession:
    """After ``prompt_tokens`` tokens the most probable ones are ``script``, in order; then token 0 for ever.

    Keeps the lengths of the steps it was given, and raises ``error`` at the step before ``fail_at`` tokens are in.
    """

    def __init__(self, script, *, prompt_tokens, vocab_size=500, context_length=64, fail_at=None, error=None):
        self.script, self.prompt_tokens = list(script), prompt_tokens
        self.vocab_size, self.context_length = vocab_size, context_length
        self.fail_at, self.error = fail_at, error
        self.steps = []

    kv_cache = "f32"

    def new_cache(self):
        return KVCache(CacheShape(1, 1, self.context_length, 2))

    def forward(self, cache, ids, *, every_position=False):
        if self.fail_at is not None and len(cache) + len(ids) > self.fail_at:
            raise self.error
        assert 0 < len(ids) <= self.context_length - len(cache)
        self.steps.append(len(ids))
        cache.extend(ids)
        logits = np.zeros((1, self.vocab_size), np.float32)
        place = len(cache) - self.prompt_tokens
        logits[0, self.script[place] if 0 <= place < len(self.script) else 0] = 9.0
        return logits
