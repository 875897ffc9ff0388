"""Sections of an evaluation. Each consists of parts that are computed and saved one by one."""

from .base import Evaluator, Part, Section
from .depths import depth_parts
from .direct import direct_parts
from .novelty import novelty_parts
from .regions import is_architecture_stored, region_parts, store_architecture
from .steps import step_parts
from .unconditional import unconditional_parts
from .widths import width_parts


SECTIONS = {
    "regions": Section(region_parts, store_architecture, is_architecture_stored),
    "direct": Section(direct_parts),
    "widths": Section(width_parts),
    "depths": Section(depth_parts),
    "unconditional": Section(unconditional_parts),
    "novelty": Section(novelty_parts),
    "steps": Section(step_parts),
}
__all__ = ["SECTIONS", "Evaluator", "Part", "Section"]
