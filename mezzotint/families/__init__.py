"""Families: one card per paper, with its process, loss, network, sampler and equation numbers.

These two annotations are the only list of cards.  To add a family that is trained here:

1. its card, a module of this folder, built from the parts of processes/, objectives/, layouts.py and decode/; add it to
   `AnyFamily` where it is trained from scratch, to `CausalFamily` where it starts from a causal model;
2. a recipe: a function in recipes/from_scratch.py or recipes/from_causal.py, named in `recipes.RECIPES`; the league
   compares every recipe `*-small` that trains from scratch;
3. for checkpoints that others published, a row of denoisers/published/families.py, and for a way of decoding that no
   preset has, a preset in decode/methods/registry.py, which the card's `method` names.
"""

from typing import Annotated

from mezzotint.families.ar import AR
from mezzotint.families.base import FamilyRecord
from mezzotint.families.bd3lm import BD3LM
from mezzotint.families.d3pm import D3PM
from mezzotint.families.diffullama import DiffuLLaMA
from mezzotint.families.diffusion_bert import DiffusionBERT
from mezzotint.families.diffusion_lm import DiffusionLM
from mezzotint.families.dream import Dream
from mezzotint.families.duo import Duo
from mezzotint.families.edit_flow import EditFlow
from mezzotint.families.efficient_dlm import EfficientDLM
from mezzotint.families.fast_dllm import FastDLLM
from mezzotint.families.flexmdm import FlexMDM
from mezzotint.families.flow_matching import FlowMatching
from mezzotint.families.gidd import GIDD
from mezzotint.families.idlm import IDLM
from mezzotint.families.llada import LLaDA
from mezzotint.families.llada2 import LLaDA2
from mezzotint.families.mdlm import MDLM
from mezzotint.families.remdm import ReMDM
from mezzotint.families.sdar import SDAR
from mezzotint.families.sed import SED
from mezzotint.families.sedd import SEDD
from mezzotint.families.udlm import UDLM
from mezzotint.families.wedlm import WeDLM
from mezzotint.plugins import OneOf

AnyFamily = Annotated[
    FamilyRecord,
    OneOf(
        "families",
        FamilyRecord,
        (
            AR,
            MDLM,
            BD3LM,
            ReMDM,
            D3PM,
            DiffusionBERT,
            FlowMatching,
            SEDD,
            UDLM,
            Duo,
            GIDD,
            DiffusionLM,
            SED,
            EditFlow,
            FlexMDM,
        ),
    ),
]
"""A field that takes any family that is trained from scratch: "mdlm", {"kind": "mdlm", ...}, or another package's."""

CausalFamily = Annotated[
    FamilyRecord,
    OneOf(
        "families",
        FamilyRecord,
        (DiffuLLaMA, Dream, SDAR, FastDLLM, EfficientDLM, WeDLM, IDLM, LLaDA, LLaDA2),
    ),
]
"""The same for families that a causal model is turned into."""
