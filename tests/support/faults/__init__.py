"""An endpoint that misbehaves on demand, and the catalogue of what it can do wrong."""

from .answers import ANSWERS
from .certificates import Certificates
from .connection import Connection
from .fault import Fault, Kind, Stage
from .server import FaultServer
from .wire import WIRE

FAULTS = [*WIRE, *ANSWERS]

__all__ = [
    "ANSWERS",
    "FAULTS",
    "WIRE",
    "Certificates",
    "Connection",
    "Fault",
    "FaultServer",
    "Kind",
    "Stage",
]
