"""What having and running a model would cost, known before the first byte of its weights."""
