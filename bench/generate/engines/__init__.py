"""One module for each contestant, run by the interpreter of its own environment; they know nothing of each other."""
