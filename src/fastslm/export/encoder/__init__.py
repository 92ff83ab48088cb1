"""Encoders of every family: described by dataclasses, checked against the files, built as one graph."""
