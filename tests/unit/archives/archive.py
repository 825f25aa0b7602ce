"""A small archive over HTTP: granules by ranges with entity tags, and a CMR that lists them as NASA's does."""

import asyncio
import gzip
import json
from contextlib import contextmanager

from aiohttp import web
from tests.http_server import ranged, running_application

FRAME = 11116


def granule_name(secondary, reference="20191223T140734", *, frame=FRAME, polarization="VV", version="1.0",
                 production="20250408T164512"):  # fmt: skip
    """A DISP-S1 granule's name; dates are such as 20200104T140734."""
    return (
        f"OPERA_L3_DISP-S1_IW_F{frame:05}_{polarization}_{reference}Z_{secondary}Z_v{version}_{production}Z"
    )


class Archive:
    """What is served, by name: `files` are bytes, `granules` are listed, `broken` files answer 500.

    Those that are `held` answer when they are so no more.
    """

    def __init__(self):
        self.files, self.granules, self.broken = {}, [], set()
        self.asked, self.searches = [], []
        self.page_size = 2
        self.hits = None
        self.data_url = None
        self.held = set()

    def add(self, name, path, references):
        """Publish the HDF5 file at `path` with its references."""
        self.files[f"{name}.nc"] = path.read_bytes()
        moved = {
            key: [f"{self.url}/data/{name}.nc", *value[1:]] if isinstance(value, list) else value
            for key, value in references["refs"].items()
        }
        self.files[f"{name}.zarr.json.gz"] = gzip.compress(json.dumps({"version": 1, "refs": moved}).encode())
        self.granules.append(name)

    async def search(self, request):
        self.searches.append((list(request.query.items()), request.headers.get("CMR-Search-After")))
        start = int(json.loads(request.headers.get("CMR-Search-After", "[0]"))[0])
        found = [self._item(name) for name in self.granules[start : start + self.page_size]]
        headers = {"CMR-Hits": str(len(self.granules))}
        if found:
            headers["CMR-Search-After"] = json.dumps([start + len(found)])
        hits = len(self.granules) if self.hits is None else self.hits
        return web.json_response({"hits": hits, "took": 5, "items": found}, headers=headers)

    def _item(self, name):
        urls = [
            f"s3://asf-cumulus-prod-opera-products/OPERA_L3_DISP-S1_V1/{name}/{name}{{}}",
            f"{self.data_url or f'{self.url}/data/'}{name}{{}}",
        ]
        related = [
            {"URL": url.format(suffix), "Type": kind}
            for suffix in (".nc", ".nc.dmrpp", ".zarr.json.gz")
            if f"{name}{suffix}" in self.files
            for url, kind in zip(urls, ("GET DATA VIA DIRECT ACCESS", "GET DATA"), strict=True)
        ]
        points = [(-119, 34), (-117, 34), (-117, 36), (-119, 36), (-119, 34)]
        corners = [{"Longitude": x, "Latitude": y} for x, y in points]
        geometry = {"GPolygons": [{"Boundary": {"Points": corners}}]}
        return {
            "meta": {"concept-id": f"G{len(name)}-ASF", "provider-id": "ASF"},
            "umm": {
                "GranuleUR": name,
                "RelatedUrls": [
                    *related,
                    {"URL": f"{self.url}/browse/{name}.png", "Type": "GET RELATED VISUALIZATION"},
                ],
                "AdditionalAttributes": [{"Name": "FRAME_NUMBER", "Values": [str(FRAME)]}, {"Name": "EMPTY"}],
                "SpatialExtent": {"HorizontalSpatialDomain": {"Geometry": geometry}},
            },
        }

    async def data(self, request):
        name = request.match_info["name"]
        self.asked.append(name)
        while name in self.held:  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.02)
        if name in self.broken:
            return web.Response(status=500)
        data = self.files.get(name)
        if data is None:
            return web.Response(status=404)
        return ranged(request, data)


@contextmanager
def running_archive():
    """Serve an empty archive while the context lasts."""
    archive = Archive()
    routes = [("/search/granules.umm_json", archive.search), ("/data/{name}", archive.data)]
    with running_application(GET=routes) as archive.url:
        yield archive
