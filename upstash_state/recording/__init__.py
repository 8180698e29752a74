"""Recorded answers for the tests of apps that use this package, without network or account.

With pytest, use the plugin's marker or fixture `upstash_recording`. Without it:

    with recording("recordings/save.yaml", mode="once"):
        assert redis_save_order("5866", {"total": 12.5})

README.md beside this file says more.
"""

from .exchange import RecordingError
from .faults import Fault
from .recorder import Mode, Recording, RecordingMismatchError
from .recorder import Recording as recording

__all__ = ["Fault", "Mode", "Recording", "RecordingError", "RecordingMismatchError", "recording"]
