"""Measurements: each peer and fastslm in turn, in one run, with the machine and the versions beside the figures."""
