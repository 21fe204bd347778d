"""Small random checkpoints of every family, made with transformers itself: two layers, 32 wide."""

import json

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast

WORDS = "paris capital france the of is what dense passage retrieval question tower metres tall who wrote faust goethe"
CASED_WORDS = "Paris France Faust Goethe"
QUESTIONS = [
    "What is the capital of France?",
    "Who wrote Faust?",
    "how tall",
    "dense passage retrieval " * 60,
    "naïve ÉCOLE 東京 — “q”",
    "question",
]
PASSAGES = [
    ("Paris", "Paris is the capital of France."),
    ("", "The tower is 330 metres tall."),
    ("Goethe", "Goethe wrote Faust, the tower of retrieval. " * 20),
    ("Dense retrieval", "dense passage retrieval"),
    ("Who", "of the"),
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.2,
}
POSITIONS = 160
MODERN = {"local_attention": 8, "global_attn_every_n_layers": 2}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "initializer_range": 0.2}
FAMILIES = {
    "bert": ("Bert", SIZES),
    "camembert": ("Camembert", SIZES),
    "distilbert": ("DistilBert", DISTIL),
    "electra": ("Electra", SIZES | {"embedding_size": 16}),
    "modernbert": ("ModernBert", SIZES | MODERN),
    "mpnet": ("MPNet", SIZES),
    "roberta": ("Roberta", SIZES),
    "xlm-roberta": ("XLMRoberta", SIZES),
}
OFFSET = ("camembert", "mpnet", "roberta", "xlm-roberta")


def wordpieces(*, cased=False):
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    marks = list("?.,;—“”'0123456789é東京")
    capitals = [*CASED_WORDS.split(), *(letter.upper() for letter in letters)] if cased else []
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*special, *WORDS.split(), *capitals, *letters, *marks, *(f"##{letter}" for letter in letters)]


def bert_tokenizer(folder, *, cased=False, **options):
    """A BERT tokenizer as transformers saves it: tokenizer.json and tokenizer_config.json."""
    write_vocabulary(folder, cased=cased)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    tokenizer = BertTokenizer.from_pretrained(folder, do_lower_case=not cased, model_max_length=POSITIONS, **options)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    return len(wordpieces(cased=cased))


def write_vocabulary(folder, *, cased=False):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(wordpieces(cased=cased)) + "\n", encoding="utf-8")


def roberta_tokenizer(folder):
    """Padding id 1 and <s> a </s></s> b </s>, as RoBERTa, XLM-R and MPNet have them; sub-words by unigram."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [f"▁{word}" for word in (WORDS + " " + CASED_WORDS).split()]
    letters = [chr(code) for code in range(ord("A"), ord("z") + 1)] + list("▁?.,'0123456789é")
    vocabulary = [(token, 0.0) for token in special] + [(piece, -2.0) for piece in pieces]
    vocabulary += [(letter, -6.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([*special, "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=POSITIONS,
    )  # fmt: skip
    fast.save_pretrained(folder)
    return tokenizer.get_vocab_size()


def plain(folder, family, *, seed=0):
    """A folder with config.json, model.safetensors and the tokenizer of `family`; returns the model."""
    name, sizes = FAMILIES[family]
    offset = family in OFFSET
    vocabulary = roberta_tokenizer(folder) if offset else bert_tokenizer(folder)
    special = {"pad_token_id": 1 if offset else 0}
    if family == "modernbert":
        special |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=vocabulary,
        max_position_embeddings=POSITIONS + (2 if offset else 0),
        **(sizes | special | ({"type_vocab_size": 1} if family in OFFSET[2:] else {})),
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}Model")(config).eval()
    model.save_pretrained(folder)
    return model


def dpr_config(vocabulary, projection=0):
    return transformers.DPRConfig(
        vocab_size=vocabulary, max_position_embeddings=POSITIONS, projection_dim=projection, **SIZES
    )


def dpr_pair(folder, *, projection=0, cased=False):
    """A folder with question/ and passage/; returns both models."""
    found = []
    for seed, (side, name) in enumerate((("question", "DPRQuestionEncoder"), ("passage", "DPRContextEncoder"))):
        vocabulary = bert_tokenizer(folder / side, cased=cased)
        torch.manual_seed(seed)
        model = getattr(transformers, name)(dpr_config(vocabulary, projection)).eval()
        model.save_pretrained(folder / side)
        found.append(model)
    return tuple(found)


def sentence_transformer(folder, *, modules=None, **described):
    """The files of an old sentence-transformers folder around a BERT model: mean pooling, normalised."""
    model = plain(folder, "bert")
    types = modules or ["Transformer", "Pooling", "Normalize"]
    paths = ["", *(f"{index}_{name}" for index, name in enumerate(types) if index)]
    prefix = "sentence_transformers.models"
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"{prefix}.{name}"}
        for index, (name, path) in enumerate(zip(types, paths, strict=True))
    ]
    write_json(folder / "modules.json", listed)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    if described:
        write_json(folder / "config_sentence_transformers.json", described)
    return model


def write_json(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def edit_json(path, **changes):
    write_json(path, read_json(path) | changes)
