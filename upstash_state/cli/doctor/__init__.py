"""`doctor`: what is wrong with the set-up, and what to do about it."""

from .report import doctor, examine

__all__ = ["doctor", "examine"]
