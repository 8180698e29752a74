"""`doctor`: find out what is wrong with the set-up, and say what to do."""

from .report import doctor

__all__ = ["doctor"]
