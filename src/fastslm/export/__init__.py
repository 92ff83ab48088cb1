"""Tensors to ONNX graph."""
