"""Small real tokenizers of the two kinds that language models use, built on the spot."""

import functools

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog, and the dog does not mind",
    "Paris is the capital of France. Ünïcödé, naïve café; 你好，世界 🙂🙃",
    "def f(x):\n    return x ** 2  # squares\n",
]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<s>"]


def byte_level(vocab_size: int = 400) -> Tokenizer:
    """As GPT-2, Llama 3, Qwen and SmolLM: every byte is a character of the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    return tokenizer


def sentencepiece(*, strip: bool = True) -> Tokenizer:
    """As Llama 2, Mistral and Gemma: words begin with a lower one-eighth block, rare characters become byte tokens."""
    pieces = ["<unk>", "<s>", "</s>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁▁", *"abcdefghijklmnopqrstuvwxyz.,é", "▁t", "he", "▁the", "er", "▁P", "ar", "is"]
    vocabulary = {piece: id_ for id_, piece in enumerate(pieces)}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("e", "r"), ("a", "r"), ("i", "s"), ("▁", "▁")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    tokenizer.add_special_tokens(["<s>", "</s>", "<|im_end|>"])
    return tokenizer


def metaspace() -> Tokenizer:
    """As T5 and converted SentencePiece models without byte tokens."""
    tokenizer = sentencepiece()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


KINDS = {
    "byte_level": byte_level,
    "sentencepiece": sentencepiece,
    "sentencepiece_without_strip": functools.partial(sentencepiece, strip=False),
    "metaspace": metaspace,
}


@functools.cache
def tokenizer_json(kind: str) -> str:
    """Content of the ``tokenizer.json`` of one kind."""
    return KINDS[kind]().to_str()


def id_of(tokenizer, piece: str) -> int | None:
    """The id of a token as the vocabulary spells it, or None."""
    return next((id_ for id_ in range(tokenizer.vocab_size) if tokenizer.piece(id_) == piece), None)
