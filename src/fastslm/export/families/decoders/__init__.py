"""Families of decoders, each a file of the same shape: ``read_shape`` from a configuration and tensor names."""
