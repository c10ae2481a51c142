"""A BERT read from disk gives the reference implementation's logits, with and without its head."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from mezzotint.denoisers.networks.bert import load_bert
from mezzotint.errors import CapacityError, CheckpointError
from mezzotint.layouts import Attend, Full, Inputs
from mezzotint.masks import causal


@pytest.fixture(params=[BertForMaskedLM, BertModel], ids=["with its head", "an encoder alone"])
def stored(request, tmp_path):
    """(network of the reference implementation, folder it was saved to)."""
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=23, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=12,
    )  # fmt: skip
    network = request.param(shape).eval()
    for parameter in network.parameters():  # biases and norms start as zeros and ones, which would hide a mix-up
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(tmp_path)
    return network, tmp_path


def test_hidden_vectors_and_logits_are_the_references(stored):
    network, folder = stored
    tokens = torch.randint(0, 23, (3, 9), generator=torch.Generator().manual_seed(1))
    ours = load_bert(folder)
    inputs = Full().arrange(tokens, tokens)
    body = getattr(network, "bert", network)
    with torch.no_grad():
        want = body(tokens).last_hidden_state
        torch.testing.assert_close(ours.hidden(inputs, None), want, rtol=1e-5, atol=1e-5)
        logits = network(tokens).logits if hasattr(network, "bert") else want @ body.embeddings.word_embeddings.weight.T
        torch.testing.assert_close(ours(inputs, torch.tensor([[0.3]])), logits, rtol=1e-5, atol=1e-5)


def test_padding_is_not_seen(stored):
    network, folder = stored
    tokens = torch.randint(0, 23, (2, 6), generator=torch.Generator().manual_seed(2))
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    body = getattr(network, "bert", network)
    with torch.no_grad():
        got = load_bert(folder).hidden(Inputs(tokens, torch.arange(6), Attend(6, 6, valid=valid)))
        want = body(tokens, attention_mask=valid.long()).last_hidden_state
    torch.testing.assert_close(got[valid], want[valid], rtol=1e-5, atol=1e-5)


def test_a_beginning_is_read_and_not_answered(stored):
    network, folder = stored
    tokens = torch.randint(0, 23, (2, 6), generator=torch.Generator().manual_seed(3))
    body = getattr(network, "bert", network)
    with torch.no_grad():
        got = load_bert(folder, begin=7).hidden(Full().arrange(tokens, tokens))
        want = body(torch.nn.functional.pad(tokens, (1, 0), value=7)).last_hidden_state[:, 1:]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_who_sees_whom_is_the_callers_choice(stored):
    _, folder = stored
    network = load_bert(folder)
    tokens = torch.randint(0, 23, (1, 6), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        whole = network.hidden(Inputs(tokens, torch.arange(6), Attend(6, 6, causal)))
        half = network.hidden(Inputs(tokens[:, :3], torch.arange(3), Attend(3, 3, causal)))
    torch.testing.assert_close(whole[:, :3], half, rtol=1e-5, atol=1e-5)


def test_every_weight_can_be_trained(stored):
    network = load_bert(stored[1])
    tokens = torch.zeros(1, 4, dtype=torch.long)
    network(Full().arrange(tokens, tokens)).square().sum().backward()
    # a softmax over keys does not change when all of them move together
    still = {name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert {name for name in still if not name.endswith("k.bias")} == set()


def test_what_does_not_fit_is_refused(stored):
    _, folder = stored
    tokens = torch.zeros(1, 13, dtype=torch.long)
    with pytest.raises(CapacityError, match="cannot read 13 columns"):
        load_bert(folder)(Full().arrange(tokens, tokens))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"bert"', '"roberta"'))
    with pytest.raises(CheckpointError, match="model_type"):
        load_bert(folder)
