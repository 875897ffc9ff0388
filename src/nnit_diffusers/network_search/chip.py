"""What a microcontroller allows: bytes of flash and multiply-accumulates of networks, as they are exported to C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..architecture import MLPArchitecture
from ..export import Footprint, footprint, quantize
from ..networks import MLP, Network


@dataclass(frozen=True)
class ChipLimits:
    """Limits of a search, and the weights that networks are scored with.

    Parameters:
        max_flash (`int`, *optional*): Most bytes of weights, biases and scales; code is not counted.
        max_macs (`int`, *optional*): Most multiply-accumulates of a call.
        quantize (`str`, *optional*): `"int8"` to score networks with 8-bit weights; see [`QuantizedMLP`].

    Raises:
        `ValueError`: If a limit is less than 1, or `quantize` is unknown.
    """

    max_flash: int | None = None
    max_macs: int | None = None
    quantize: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_flash", "max_macs"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"`{name}` must be an integer of 1 or more, but received {value!r}.")
        if self.quantize not in (None, "int8"):
            raise ValueError(f"`quantize` must be 'int8' or None, but received {self.quantize!r}.")

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> ChipLimits:
        """The limits in the settings of a search; those of older versions have none."""
        return cls(*(settings.get(name) for name in cls.__dataclass_fields__))

    def settings(self) -> dict[str, Any]:
        """The limits that are set, so that searches without any have the settings of older versions."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def cost(self, architecture: MLPArchitecture) -> Footprint:
        """Bytes and operations of an architecture, with the weights that it is exported with."""
        return footprint(architecture, self.quantize)

    def allow(self, architecture: MLPArchitecture) -> bool:
        """Whether a network of this architecture stays within the limits."""
        cost = self.cost(architecture)
        within_flash = self.max_flash is None or cost.weight_bytes <= self.max_flash
        return within_flash and (self.max_macs is None or cost.multiply_accumulates <= self.max_macs)

    def check(self, smallest: MLPArchitecture) -> None:
        """Raises `ValueError` if not even the smallest network of a pipeline stays within the limits."""
        cost = self.cost(smallest)
        for name, least in (("max_flash", cost.weight_bytes), ("max_macs", cost.multiply_accumulates)):
            limit = getattr(self, name)
            if limit is not None and limit < least:
                raise ValueError(
                    f"`{name}` must be {least:,} or more, that of the smallest network, {smallest}, but received "
                    f"{limit:,}."
                )

    def max_parameters(self, given: int | None) -> int | None:
        """Most parameters that can stay within the limits, and within the number that is given, if there is one."""
        limits = [] if given is None else [given]
        if self.max_flash is not None:
            limits.append(self.max_flash // (4 if self.quantize is None else 1))
        if self.max_macs is not None:
            # every output has a bias, and one product or more
            limits.append(2 * self.max_macs)
        return min(limits, default=None)

    def exported(self, networks: Sequence[MLP]) -> list[Network]:
        """The networks as they run on the chip, to be scored."""
        return [network if self.quantize is None else quantize(network) for network in networks]
