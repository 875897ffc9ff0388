"""Tests that need a simulator are left out where there is none, and say why."""

import pytest

from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator


@pytest.fixture(scope="session")
def simulator():
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))
