"""Generation: prompts read, answers written, loading and memory, of us and of others in turn on the same shapes."""
