"""A model's name to verified files in the cache."""
