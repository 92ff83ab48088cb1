"""The target ``native``: packed weights and our own operators."""
