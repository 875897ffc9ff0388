"""Search for the smallest network that reaches a success rate."""

from .latency import measure_latencies
from .plan import SearchPlan
from .search import search
from .state import Candidate, SearchResult


__all__ = ["Candidate", "SearchPlan", "SearchResult", "measure_latencies", "search"]
