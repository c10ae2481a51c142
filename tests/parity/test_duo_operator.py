"""Duo's operator between Gaussian and uniform noise against recorded integrals, published caches and series."""

import re

import pytest
import torch

from mezzotint.processes.gaussian_argmax import GaussianArgmax, climb, on_top, series, survival


def derive(golden):
    """Every output of the folder by its name."""
    out, gamma = {}, golden["gamma"]
    for ids in golden.config["vocab_sizes"]:
        p = on_top(gamma, ids)
        out |= {f"N{ids}.P": p, f"N{ids}.T": survival(p, ids), f"N{ids}.dP": climb(gamma, ids)}
    for name in golden.names(r"cached\.N\d+\.gamma"):
        case, recorded = name.removesuffix(".gamma"), golden[name]
        twin = GaussianArgmax(int(re.search(r"N(\d+)", name)[1]), float(recorded[0]), float(recorded[-1]))
        t = torch.linspace(0, 1, len(recorded), dtype=torch.float64)
        out |= {name: twin.gamma(t), f"{case}.alpha": twin.alpha(t), f"{case}.dalpha": twin.dalpha(t)}
        out[f"{case}.prior_loss"] = torch.tensor(twin.prior(), dtype=torch.float64)
    for name in golden.names(r"series\.N\d+\.alpha"):
        levels = golden["series.gamma"]
        alpha, rate = series(levels, int(re.search(r"N(\d+)", name)[1]))
        out |= {name: alpha, name.replace("alpha", "dalpha"): rate * (levels[-1] - levels[0])}
    return out


@pytest.mark.golden("duo_operator")
def test_every_recorded_output_is_reproduced(golden):
    found = derive(golden)
    assert golden.config["vocab_sizes"]
    assert set(golden.outputs()) == set(found)
    for name, value in found.items():
        golden.check(name, value)
