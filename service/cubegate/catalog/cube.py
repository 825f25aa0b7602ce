"""What queries need of a cube, whether it has a store of its own or answers from others."""

from __future__ import annotations

from typing import Protocol

from cubegate.catalog.collection import Collection
from cubegate.query.budget import Limits, Price
from cubegate.query.filtering import AnyQuery
from cubegate.query.selection import Selection


class Answer(Protocol):
    """What a query selects, before it is read; see `Selection`."""

    @property
    def nbytes(self) -> int:
        """The size in memory of what `load` reads and makes of it."""
        ...

    async def load(self) -> Selection:
        """Read everything."""
        ...


class QueryPlan(Protocol):
    """A query made ready, see `Plan`; nothing is read yet."""

    @property
    def price(self) -> Price:
        """What it costs."""
        ...

    async def hint(self) -> str:
        """Say what would fit; empty where the query does."""
        ...

    async def enforce(self) -> Answer:
        """Return what is selected.

        Raises:
            BudgetExceeded: it costs more than the limits.
        """
        ...


class Cube(Protocol):
    """One mounted dataset."""

    @property
    def collection(self) -> Collection:
        """The dataset as configured."""
        ...

    @property
    def id(self) -> str:
        """The collection's id, without a version."""
        ...

    @property
    def title(self) -> str:
        """The collection's title, or its id."""
        ...

    @property
    def version(self) -> str:
        """A hash of the contents."""
        ...

    @property
    def immutable(self) -> bool:
        """Whether nothing that is read can change while the version stays."""
        ...

    @property
    def identity(self) -> str:
        """All that answers are made of, beside the query."""
        ...

    @property
    def picture_identity(self) -> str:
        """All that pictures are made of, beside the query: their overviews too."""
        ...

    def refresh_overviews(self) -> None:
        """See to it that a change of overviews is noticed; waits for nothing."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the operator should know."""
        ...

    async def plan(self, group: str, query: AnyQuery, limits: Limits) -> QueryPlan:
        """Make a query of one group ready and price it.

        Raises:
            NotFound, InvalidMetadata, UpstreamError: the group cannot be opened.
            InvalidParameter, NotAcceptable: a part of the query does not fit the dataset.
            CorruptIndex: the part of an index that would tell the price is damaged.
        """
        ...
