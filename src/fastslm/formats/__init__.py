"""Read model files: safetensors, GGUF, archives."""
