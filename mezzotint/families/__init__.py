"""Families: one card per paper, with its token loss, update, wiring and equation numbers."""

from typing import Annotated

from pydantic import Field

from mezzotint.families.ar import AR
from mezzotint.families.bd3lm import BD3LM
from mezzotint.families.d3pm import D3PM
from mezzotint.families.diffusion_bert import DiffusionBERT
from mezzotint.families.flow_matching import FlowMatching
from mezzotint.families.mdlm import MDLM
from mezzotint.families.remdm import ReMDM

AnyFamily = Annotated[AR | MDLM | BD3LM | ReMDM | D3PM | DiffusionBERT | FlowMatching, Field(discriminator="kind")]
"""A field that takes any family whose texts keep their length: {"kind": "mdlm", ...}."""
