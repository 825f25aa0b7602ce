"""A small STAC API over HTTP: a collection, and a search whose pages are linked."""

from contextlib import contextmanager

from aiohttp import web
from tests.http_server import running_application

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
]


class StacAPI:
    """What is served: `items`, `page_size` at a time; `collection` is more of the collection's document."""

    def __init__(self):
        self.items, self.collection, self.searches = [], {}, []
        self.page_size, self.status, self.next_url = 2, 200, None

    async def landing(self, _):
        search = {"rel": "search", "href": f"{self.url}/search", "type": "application/geo+json"}
        links = [
            {"rel": "self", "href": self.url},
            {**search, "method": "GET"},
            {**search, "method": "POST"},
            {"rel": "data", "href": f"{self.url}/collections"},
        ]
        return web.json_response(
            {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "x",
             "conformsTo": CONFORMS, "links": links}
        )  # fmt: skip

    async def described(self, _):
        interval = [["2020-01-01T00:00:00Z", None]]
        document = {
            "type": "Collection", "stac_version": "1.0.0", "id": "velocity", "title": "Velocities",
            "description": "x", "license": "other", "links": [],
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": interval}},
            **self.collection,
        }  # fmt: skip
        return web.json_response(document)

    async def search(self, request):
        asked = await request.json()
        self.searches.append(asked)
        if self.status != 200:
            return web.Response(status=self.status, text="<secret>")
        start = int(asked.get("token", 0))
        links = []
        if start + self.page_size < len(self.items):
            body = {**asked, "token": start + self.page_size}
            url = self.next_url or f"{self.url}/search"
            links = [{"rel": "next", "href": url, "method": "POST", "body": body}]
        features = self.items[start : start + self.page_size]
        return web.json_response({"type": "FeatureCollection", "features": features, "links": links})

    def add(self, name, when, assets, **properties):
        """Publish an item with `assets`, (address, media type) or more by key."""
        described = {
            key: {"href": asset[0], "type": asset[1], "roles": ["data"]}
            if isinstance(asset, tuple)
            else asset
            for key, asset in assets.items()
        }
        self.items.append(
            {"type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "velocity", "links": [],
             "geometry": {"type": "Point", "coordinates": [0, 0]}, "bbox": [0, 0, 0, 0],
             "properties": {"datetime": when, **properties}, "assets": described}
        )  # fmt: skip


@contextmanager
def running_stac_api():
    """Serve an API without items while the context lasts."""
    api = StacAPI()
    landing = [("/", api.landing), ("/collections/velocity", api.described)]
    with running_application(GET=landing, POST=[("/search", api.search)]) as api.url:
        yield api
