"""A model's bits on a text of the user's are those of its objective, with their error."""

import json
import math

import pytest
import torch

from mezzotint.cli.main import run
from mezzotint.data.characters import Characters
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import RequestError
from mezzotint.evaluate.held_out_text import text_bits
from mezzotint.families import AR, MDLM
from mezzotint.models.trained import TrainedConfig, TrainedModel

TEXT = "the cat sat on a mat and the cat "


def fresh(family):
    torch.manual_seed(0)
    shape = TrainedConfig(network=TransformerConfig(width=32, layers=1, heads=2), family=family, length=4)
    model = TrainedModel.fresh(shape, Characters.of(TEXT))
    model.network.eval()
    return model


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_alphabet():
    symbols = len(set(TEXT))
    found = text_bits(fresh(AR()), TEXT)
    assert found.exact
    assert (found.windows, found.tokens) == (len(TEXT) // 4, len(TEXT) // 4 * 4)
    assert found.nats_per_token == pytest.approx(math.log(symbols), rel=1e-5)
    assert found.bits_per_character == pytest.approx(math.log2(symbols), rel=1e-5)
    assert found.perplexity == pytest.approx(symbols, rel=1e-4)


def test_more_draws_of_the_noise_leave_less_error_in_a_bound():
    model = fresh(MDLM())
    few, many = (text_bits(model, TEXT * 8, draws=draws, seed=1) for draws in (1, 32))
    assert not few.exact
    assert many.nats_per_token_error < few.nats_per_token_error
    assert abs(many.nats_per_token - math.log(len(set(TEXT)))) < 4 * many.nats_per_token_error
    assert text_bits(model, TEXT * 8, seed=1) == few


def test_some_windows_are_taken_from_all_over_the_text_and_progress_is_told():
    told = []
    found = text_bits(fresh(AR()), TEXT * 30, windows=20, tell=lambda done, total: told.append((done, total)))
    assert found.windows == 20
    assert told == [(16, 20), (20, 20)]


def test_one_window_has_no_error():
    assert text_bits(fresh(AR()), TEXT[:5]).nats_per_token_error is None


@pytest.mark.parametrize(("text", "options", "said"), [("th", {}, "longer text"), (TEXT, {"draws": 0}, "from 1 up")])
def test_what_cannot_be_measured_is_refused(text, options, said):
    with pytest.raises(RequestError, match=said):
        text_bits(fresh(AR()), text, **options)


def test_the_verb_prints_figures_with_errors(tmp_path, capsys):
    fresh(MDLM()).save(_made(tmp_path / "model"))
    (tmp_path / "held.txt").write_text(TEXT * 4)
    arguments = ["evaluate", str(tmp_path / "model"), "--data", str(tmp_path / "held.txt"), "--draws", "2"]
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert "bits per character\tat most " in said.out
    assert "upper bounds: 33 windows of 4 tokens, 2 draws, seed 0" in said.err
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["exact"], found["draws"], found["windows"]) == (False, 2, 33)
    assert run(["evaluate", str(tmp_path / "none"), "--data", str(tmp_path / "held.txt")]) == 2
    assert "there is no run in" in capsys.readouterr().err
    (tmp_path / "held.txt").write_text("xyz" * 30)
    assert run(arguments) == 2
    assert "is not in the vocabulary" in capsys.readouterr().err


def _made(folder):
    folder.mkdir()
    return folder
