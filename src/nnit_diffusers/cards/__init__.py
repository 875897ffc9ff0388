"""What a published pipeline shows: its model card, pictures of its evaluation, and the folder of both."""

from .card import write_card
from .folder import write_pipeline
from .pictures import draw_pictures


__all__ = ["draw_pictures", "write_card", "write_pipeline"]
