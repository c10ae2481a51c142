"""Families: one card per paper, with its token loss, update, wiring and equation numbers."""

from typing import Annotated

from pydantic import Field

from mezzotint.config import Named
from mezzotint.families.ar import AR
from mezzotint.families.bd3lm import BD3LM
from mezzotint.families.d3pm import D3PM
from mezzotint.families.diffusion_bert import DiffusionBERT
from mezzotint.families.diffusion_lm import DiffusionLM
from mezzotint.families.duo import Duo
from mezzotint.families.edit_flow import EditFlow
from mezzotint.families.flexmdm import FlexMDM
from mezzotint.families.flow_matching import FlowMatching
from mezzotint.families.gidd import GIDD
from mezzotint.families.mdlm import MDLM
from mezzotint.families.remdm import ReMDM
from mezzotint.families.sed import SED
from mezzotint.families.sedd import SEDD
from mezzotint.families.udlm import UDLM

AnyFamily = Annotated[
    AR
    | MDLM
    | BD3LM
    | ReMDM
    | D3PM
    | DiffusionBERT
    | FlowMatching
    | SEDD
    | UDLM
    | Duo
    | GIDD
    | DiffusionLM
    | SED
    | EditFlow
    | FlexMDM,
    Field(discriminator="kind"),
    Named,
]
"""A field that takes any family that is trained from scratch: "mdlm" or {"kind": "mdlm", ...}."""
