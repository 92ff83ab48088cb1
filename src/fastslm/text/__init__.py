"""Tokenizer, streaming detokenizer, chat templates."""
