"""The faults that the stand-in knows: a closed table, each row tested."""

from tests.stand_in.faults.base import Fault, Moment, Seen, respond
from tests.stand_in.faults.table import OF_ANY_SUPPLIER, TABLE, UnknownFaultError, fault_named, fault_of_plan

__all__ = [
    "OF_ANY_SUPPLIER",
    "TABLE",
    "Fault",
    "Moment",
    "Seen",
    "UnknownFaultError",
    "fault_named",
    "fault_of_plan",
    "respond",
]
