"""State-space layers with a carried state; they know nothing of events or boxes."""

from ssmbook.ssm.discretization import discretize
from ssmbook.ssm.export import export_layer
from ssmbook.ssm.kernels.dispatch import diagonal_scan
from ssmbook.ssm.layer import StateSpaceLayer, parameter_groups
from ssmbook.ssm.response import frequency_response
from ssmbook.ssm.s4 import S4
from ssmbook.ssm.s4d import S4D
from ssmbook.ssm.s5 import S5
from ssmbook.ssm.s6 import S6
from ssmbook.ssm.selective import SelectiveS5
from ssmbook.ssm.sequence import SequenceLayer

__all__ = [
    "S4",
    "S4D",
    "S5",
    "S6",
    "SelectiveS5",
    "SequenceLayer",
    "StateSpaceLayer",
    "diagonal_scan",
    "discretize",
    "export_layer",
    "frequency_response",
    "parameter_groups",
]
