"""Models whose weights come as 4-bit integers of GPTQ or AWQ: told by their configuration, read without loss."""
