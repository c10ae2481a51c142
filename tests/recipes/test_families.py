"""Recipes that need more than a network and a loss: frequencies, lessons, vectors, lengths, encoders."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mezzotint.cli.main import run as command
from mezzotint.data.corpus import find
from mezzotint.data.subwords import Subwords
from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.families import DiffusionBERT
from mezzotint.models.trained import TrainedModel
from mezzotint.processes.gaussian import scaled
from mezzotint.recipes import load
from mezzotint.recipes.from_scratch import informed
from mezzotint.train.loop import run

TINY = [
    "network.width=32", "network.layers=1", "network.heads=2", "length=16", "rows=16", "windows=32", "samples=1",
    "train.max_minutes=null", "train.eval_every=null", "train.ema=null",
]  # fmt: skip
TEXT = "the cat sat on the mat and the dog sat on the log. " * 200


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "my.txt"
    path.write_text(TEXT)
    return path


def trained(name, text, folder, *edits):
    cfg, _ = load(name, [f"data={text}", *TINY, *edits])
    return run(cfg.build(), cfg.train, folder)


@pytest.mark.parametrize(
    ("name", "edits", "most"),
    [
        ("diffusion-bert-small", [], 4.0),
        ("duo-small", ["family.curriculum=40"], 4.2),
        ("edit-flow-small", [], 9.0),
        ("flexmdm-small", [], 7.0),
    ],
)
def test_bounds_fall_and_runs_write(name, edits, most, text, tmp_path, capsys):
    outcome = trained(name, text, tmp_path / "run", "train.steps=80", *edits)
    assert outcome.evaluation["bits_per_character"] < most
    (tmp_path / "run" / "run.json").write_text("{}")
    assert command(["generate", "the _at", "--model", str(tmp_path / "run"), "--steps", "4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["text"].startswith("the ")
    assert facts["text"].endswith("at")
    assert facts["tokens"] in ((0, 1) if name in ("edit-flow-small", "flexmdm-small") else (1,))


@pytest.mark.parametrize("name", ["diffusion-lm-small", "sed-small"])
def test_vectors_are_denoised_better_than_they_were(name, text, tmp_path):
    early, late = (
        trained(name, text, tmp_path / str(steps), f"train.steps={steps}", "family.steps=50").evaluation
        for steps in (5, 80)
    )
    assert late["bits_per_character"] < 0.8 * early["bits_per_character"]


def test_frequencies_are_those_of_the_text_to_train_on(text):
    corpus = find(str(text), 16)
    family = informed(DiffusionBERT(), corpus)
    assert sum(family.counts) == len(corpus.train.ids)
    assert family.counts[corpus.vocabulary.mask_id] == 0
    given = DiffusionBERT(counts=(1, 2))
    assert informed(given, corpus) is given


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny encoder with its tokenizer, as a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[MASK]", *sorted(set(TEXT.replace(".", " .").split()))]
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(shape).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[MASK]"])
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_training_starts_from_an_encoder_and_its_pieces(encoder, text, tmp_path, capsys):
    edits = [f"encoder={encoder}", "train.steps=40", "train.optim.lr=0.003"]
    outcome = trained("diffusion-bert-minilm", text, tmp_path / "run", *edits)
    assert outcome.evaluation["bits_per_character"] < 0.8
    model = TrainedModel.load(tmp_path / "run" / "export")
    assert model.vocabulary.mask_id == 3
    assert model.network.shape.max_positions == 32
    (tmp_path / "run" / "run.json").write_text("{}")
    assert command(["generate", "the cat ___ the mat", "--model", str(tmp_path / "run"), "--steps", "4"]) == 0
    assert capsys.readouterr().out.startswith("the cat ")


def test_sed_learns_on_the_embeddings_of_an_encoder(encoder, text, tmp_path):
    given = load_file(encoder / "model.safetensors")["embeddings.word_embeddings.weight"]
    trained("sed-small", text, tmp_path / "run", f"encoder={encoder}", "train.steps=30", "network.width=32")
    model = TrainedModel.load(tmp_path / "run" / "export")
    assert model.shape.family.width == given.shape[1]
    assert model.vocabulary.mask_id == 3
    # the vectors stay as they were, but for their length; the readout began as them and has learnt
    process = model.family.process
    torch.testing.assert_close(process.table, scaled(given))
    assert not torch.equal(process.head.weight, process.table)
    assert len(model.texts([*model.decode(model.blank(1), 4)][-1])) == 1


def test_encoders_that_cannot_be_are_refused(encoder, text, tmp_path):
    for name, edit, sentence in (
        ("diffusion-bert-small", "encoder=nothing", "there is no encoder 'nothing'"),
        ("ar-small", f"encoder={encoder}", "cannot start ar from an encoder"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            load(name, [f"data={text}", edit])[0].build()
    with pytest.raises(VocabularyError, match="cannot read the tokenizer"):
        Subwords.published(tmp_path / "none.json")
