"""The networks that a family can be trained from scratch on."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mezzotint.denoisers.networks.dit import DiTConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import ConfigError


def _record(value: Any) -> Any:
    if isinstance(value, str):
        return {"kind": value}
    return {"kind": "transformer", **value} if isinstance(value, dict) else value


Trunk = Annotated[TransformerConfig | DiTConfig, Field(discriminator="kind"), BeforeValidator(_record)]
"""A field that takes a network's shape: "dit" or {"kind": "dit", ...}; without a kind it is the small transformer's."""


def transformer(trunk: Trunk) -> TransformerConfig:
    """The shape of a small transformer, for families that read its hidden states or replace its embeddings.

    Raises:
        ConfigError: another network.
    """
    if not isinstance(trunk, TransformerConfig):
        raise ConfigError(
            f"this family changes the two ends of its network, and only the small transformer's can be: {trunk.kind} "
            "cannot carry it, take network.kind=transformer"
        )
    return trunk
