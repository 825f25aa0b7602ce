"""What plugins import: the datacube dependency, problems, responses."""

from cubegate.api.dependencies import Services, collection, datacube, formats, limits, services
from cubegate.api.description import describe_cube
from cubegate.api.problems import PROBLEM_RESPONSES, problem, problem_of, register_problems
from cubegate.api.responses import respond
from cubegate.catalog.cube import Cube, QueryPlan
from cubegate.catalog.datacube import Datacube
from cubegate.settings import LimitSettings
from cubegate.store.encoded import EncodedStore

__all__ = [
    "PROBLEM_RESPONSES",
    "Cube",
    "Datacube",
    "EncodedStore",
    "LimitSettings",
    "QueryPlan",
    "Services",
    "collection",
    "datacube",
    "describe_cube",
    "formats",
    "limits",
    "problem",
    "problem_of",
    "register_problems",
    "respond",
    "services",
]
