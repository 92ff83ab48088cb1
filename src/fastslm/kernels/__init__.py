"""Numba hot loops: arrays in, arrays out."""
