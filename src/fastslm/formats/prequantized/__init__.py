"""Models whose weights come as 4 bits of GPTQ, AWQ or MXFP4: told by their configuration, read without loss."""
