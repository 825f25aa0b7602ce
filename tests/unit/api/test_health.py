"""Health: the process lives, and knows its datasets."""


def test_health_and_readiness(server):
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert server.http.get("/readyz").json() == {"status": "ok", "datasets": 2}
