"""The way to the endpoint: exchanges above, HTTP below, and a seam between them."""

from .budget import deadline_within as deadline_within
from .budget import time_budget as time_budget
from .exchange import Exchange as Exchange
from .exchange import Transport as Transport
from .seam import COMMAND as COMMAND
from .seam import PIPELINE as PIPELINE
from .seam import TRANSACTION as TRANSACTION
from .seam import Answer as Answer
from .seam import Endpoint as Endpoint
from .seam import Send as Send
from .seam import guarding as guarding
from .seam import intercepting as intercepting
from .seam import one_by_one as one_by_one
