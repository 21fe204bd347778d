"""Tokenizers of the families that readers come from, without downloads."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from dpr_lance.encoders.bundle import TOKENIZER
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED

TEXTS = [
    "The tower in Paris is 330 metres tall.",
    "Ναι, Ünïcödé: 東京, हिन्दी, مرحبا, 😀 and a\u0301 combining accent",
    "who wrote the book about a river in the Alps? It was written in 1889 by nobody.",
]


def word_pieces():
    """BERT's: lower case, accents dropped."""
    tokenizer = Tokenizer.from_file(str(PACKAGED / DEFAULT_ENCODER / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def byte_level():
    """RoBERTa's: bytes, the space before a word is part of it, two separators in the middle."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def pieces():
    """XLM-R's: a mark for each space."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


FAMILIES = {"word pieces": word_pieces, "byte level": byte_level, "pieces": pieces}
