"""What holds for every test: no network, no display, one thread, the same random numbers whatever ran before."""

import os
import random


# Read when huggingface_hub and matplotlib are first imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
