import pytest
import torch

from ssmbook.detector.precision import usable_device
from ssmbook.errors import InputError


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_named_in_one_line(name):
    with pytest.raises(InputError, match=rf"^device '{name}' cannot be used here \(.*\); use cpu$") as error:
        usable_device(name)
    assert "\n" not in str(error.value)


def test_the_cpu_is_always_there():
    assert usable_device("cpu") == torch.device("cpu")
    assert usable_device().type in ("cpu", "cuda")
