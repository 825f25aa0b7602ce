"""A small HyP3 API over HTTP: the jobs of an account, page by page, and the ZIP files of those that succeeded."""

from contextlib import contextmanager

from aiohttp import web
from tests.http_server import ranged, running_application

TOKEN = "token-value"


class HyP3API:
    """What is served: `jobs` for who has the token, `page_size` at a time; `zips` (and what lies beside them) for everybody."""

    def __init__(self):
        self.jobs, self.zips, self.asked = [], {}, []
        self.absent = 404
        self.page_size, self.status, self.next_url, self.body = 2, 200, None, None

    def add(self, job_id, name, data, granules, *, project="my stack", kind="INSAR_GAMMA", **other):
        """Publish a job that succeeded, whose ZIP file is `data`."""
        self.zips[f"{name}.zip"] = data
        file = {"filename": f"{name}.zip", "size": len(data), "url": f"{self.url}/files/{name}.zip",
                "s3": {"bucket": "hyp3-contentbucket", "key": f"{job_id}/{name}.zip"}}  # fmt: skip
        self.jobs.append({
            "job_id": job_id, "job_type": kind, "user_id": "somebody", "status_code": "SUCCEEDED", "name": project,
            "request_time": "2024-01-01T00:00:00+00:00", "expiration_time": "2999-01-01T00:00:00+00:00",
            "job_parameters": {"granules": granules}, "files": [file], **other,
        })  # fmt: skip

    async def find(self, request):
        self.asked.append((dict(request.query), dict(request.headers)))
        if self.status != 200:
            return web.json_response(
                {"detail": "<secret>"}, status=self.status, headers={"Location": "/else"}
            )
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"detail": "No authorization token provided"}, status=401)
        if self.body is not None:
            return web.Response(text=self.body)
        named = [job for job in self.jobs if job["name"] == request.query.get("name")]
        start = int(request.query.get("start_token", 0))
        answer = {"jobs": named[start : start + self.page_size]}
        if start + self.page_size < len(named):
            where = self.next_url or f"{self.url}/jobs"
            answer["next"] = f"{where}?name={request.query['name']}&start_token={start + self.page_size}"
        return web.json_response(answer)

    async def file(self, request):
        self.asked.append((request.path, dict(request.headers)))
        data = self.zips.get(request.match_info["name"])
        if data is None:
            return web.Response(status=self.absent)
        return ranged(request, data)


@contextmanager
def running_hyp3():
    """Serve an API without jobs while the context lasts."""
    api = HyP3API()
    with running_application(GET=[("/jobs", api.find), ("/files/{name}", api.file)]) as api.url:
        yield api
