"""The double answers as recorded: redirects, signatures, refusals, token API, temporary keys."""

import json
import urllib.error
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime
from http.cookies import SimpleCookie

import pytest
from tests.earthdata_double.double import running_double

DATA = bytes(range(256)) * 4


@pytest.fixture
def double():
    with running_double({"granule.nc": DATA}) as double:
        yield double


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def ask(url, method="GET", **headers):
    """Status, headers and body of one answer, whatever it is; no redirect is followed."""
    request = urllib.request.Request(  # noqa: S310 - the double's own addresses
        url, headers={name.replace("_", "-"): value for name, value in headers.items()}, method=method
    )
    try:
        with urllib.request.build_opener(_Stay).open(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def basic(double):
    return "Basic " + b64encode(f"{double.user}:{double.password}".encode()).decode()


def signed_url(double):
    status, headers, _ = ask(double.granules_url + "granule.nc", Authorization=f"Bearer {double.token}")
    assert status == 303
    return headers["Location"]


def test_a_token_is_redirected_to_signed_bytes_elsewhere(double):
    location = signed_url(double)
    assert location.startswith(double.objects_url)
    status, headers, body = ask(location, Range="bytes=10-19")
    assert (status, headers["Content-Range"], body) == (206, "bytes 10-19/1024", DATA[10:20])
    assert ask(location, Range="bytes=-4")[2] == DATA[-4:]
    assert ask(location)[2] == DATA
    assert ask(location, Range="bytes=2000-2001")[0] == 416
    etag = headers["ETag"]
    assert ask(location, Range="bytes=0-1", If_Match=etag)[0] == 206
    double.objects["granule.nc"] = b"another"
    assert ask(location, Range="bytes=0-1", If_Match=etag)[0] == 412
    assert ask(location, Range="bytes=0-1", If_Range=etag)[0] == 200


def test_signed_urls_are_refused_when_expired_altered_or_sent_a_token(double):
    location = signed_url(double)
    assert ask(location, Authorization="Bearer x")[0] == 400
    assert len(double.authorized("objects")) == 1
    assert ask(location.replace("granule", "other"))[0] == 403
    double.expire_signatures()
    assert ask(location)[0] == 403
    double.signed_lifetime = 0
    assert b"expired" in ask(signed_url(double))[2]


def test_without_a_good_token_there_is_the_login_page(double):
    status, headers, _ = ask(double.granules_url + "granule.nc")
    assert status == 302
    assert headers["Location"].startswith(f"{double.login_url}/oauth/authorize?")
    status, headers, body = ask(headers["Location"])
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert b"Earthdata Login" in body
    double.expire_tokens()
    token = f"Bearer {double.token}"
    assert ask(double.granules_url + "granule.nc", Authorization=token)[0] == 302
    double.bad_token = "401"
    assert ask(double.granules_url + "granule.nc", Authorization=token)[0] == 401


def test_an_eula_is_asked_for(double):
    double.eula = True
    for url in (double.granules_url + "granule.nc", double.s3credentials_url):
        status, _, body = ask(url, Authorization=f"Bearer {double.token}")
        assert status == 403
        assert "EULA" in json.loads(body)["error_description"]


def test_the_token_api_knows_the_password(double):
    for path, method in (("tokens", "GET"), ("find_or_create_token", "POST")):
        url = f"{double.login_url}/api/users/{path}"
        assert ask(url, method)[0] == 401
        status, _, body = ask(url, method, Authorization=basic(double))
        assert status == 200
        assert double.token in json.dumps(json.loads(body))
    double.expire_tokens()
    body = ask(url, "POST", Authorization=basic(double))[2]
    assert double.good_token(f"Bearer {json.loads(body)['access_token']}")


@pytest.mark.parametrize(
    ("form", "pattern"), [("space", "%Y-%m-%d %H:%M:%S+00:00"), ("iso", "%Y-%m-%dT%H:%M:%SZ")]
)
def test_temporary_keys_open_the_bucket_until_they_expire(double, form, pattern):
    double.expiry_format = form
    status, _, body = ask(double.s3credentials_url, Authorization=f"Bearer {double.token}")
    assert status == 200
    keys = json.loads(body)
    left = datetime.strptime(keys["expiration"], pattern).replace(tzinfo=UTC).timestamp() - double.clock()
    assert 3500 < left <= 3600
    signed = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={keys['accessKeyId']}/20250408/us-west-2/s3/aws4_request",
        "x-amz-security-token": keys["sessionToken"],
    }
    url = f"{double.s3_url}/{double.bucket}/granule.nc"
    assert ask(url, **signed)[2] == DATA
    assert ask(url)[0] == 403
    double.out_of_region = True
    assert ask(url, **signed)[0] == 403
    double.expire_keys()
    status, _, body = ask(url, **signed)
    assert status == 400
    assert b"ExpiredToken" in body


def test_the_recorded_flow_gives_keys_for_a_password_and_a_cookie(double):
    double.redirect_flow = True
    to_login = ask(double.s3credentials_url, Authorization=f"Bearer {double.token}")[1]["Location"]
    back = ask(to_login, Authorization=basic(double))[1]["Location"]
    status, headers, _ = ask(back)
    assert (status, headers["Location"]) == (301, "/s3credentials")
    [cookie] = SimpleCookie(headers["Set-Cookie"]).values()
    assert ask(double.s3credentials_url, Cookie=f"{cookie.key}={cookie.value}")[0] == 200


def test_what_arrived_is_told(double):
    ask(double.granules_url + "granule.nc", Authorization="Bearer x")
    ask(double.granules_url + "other.nc")
    assert double.count("granules", "/granules/granule") == 1
    assert double.statuses("granules") == {302: 2}
    [seen] = double.authorized("granules")
    assert seen.headers["authorization"] == "Bearer x"
    double.failing["granules"] = 503
    assert ask(double.granules_url + "other.nc")[0] == 503
    double.forget()
    assert double.count("granules") == 0
