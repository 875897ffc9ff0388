"""Skips tests that need a simulator if there is none, with the reason."""

import pytest

from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator


@pytest.fixture(scope="session")
def simulator():
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))
