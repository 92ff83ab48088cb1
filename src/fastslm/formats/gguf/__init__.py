"""Read GGUF files: header, tensors, configuration and tokenizer, in Hugging Face's terms."""
