"""The jobs of a project are found by the HyP3 API, and become a served cube; the token goes nowhere else."""

import json
import sys

import numpy as np
import pytest
import xarray as xr
from tests.unit.archives.hyp3_api import TOKEN, running_hyp3
from tests.unit.archives.hyp3_products import gamma_name, shifted, write_product, zipped

from cubegate.app import create_app
from cubegate.cli import main
from cubegate.settings import load_settings

pytest.importorskip("hyp3_sdk", reason="hyp3-sdk is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")

DATES = [("20200101", "20200113"), ("20200101", "20200125"), ("20200113", "20200125")]
NAMES = [gamma_name(*dates, f"000{n}") for n, dates in enumerate(DATES)]


def scene(date, orbit):
    return f"S1A_IW_SLC__1SDV_{date}T012345_{date}T012412_{orbit:06}_037D0E_6B3A"


@pytest.fixture
def api():
    with running_hyp3() as running:
        yield running


@pytest.fixture
def published(api, tmp_path):
    """Publish a job for each product, of which the last is of another path; returns the pixels."""
    pixels = []
    for n, (name, dates) in enumerate(zip(NAMES, DATES, strict=True)):
        orbit = 30647 + n // 2
        product, each = write_product(tmp_path / "made", name, n, layers=("corr", "unw_phase"), orbit=orbit)
        pixels.append(each)
        data = zipped(product, tmp_path / f"{name}.zip").read_bytes()
        api.add(f"job-{n}", name, data, [scene(date, orbit) for date in dates])
    return pixels


@pytest.fixture
def configuration(api, tmp_path):
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f"credentials: {{edl: {{kind: earthdata, token_env: HYP3_TOKEN}}}}\n"
        f'archives: {{hyp3: "{api.url}"}}\n'
        f'upstreams: {{"{api.url}/jobs": {{credentials: edl}}, "{api.url}/files/": {{}},\n'
        f'            "{tmp_path.as_uri()}/": {{}}}}\n'
        "collections: [cubes/*.yaml]\n"
    )
    return file


@pytest.fixture
def build(configuration, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HYP3_TOKEN", TOKEN)

    def build(*options):
        place = ["-o", str(tmp_path / "cubes"), "--config", str(configuration), "--json"]
        code = main(["build", "hyp3", "--project", "my stack", *map(str, options), *place])
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        return code, json.loads(said.out) if code == 0 else None, said.err

    return build


def test_the_jobs_of_a_project_become_a_cube(  # noqa: PLR0917 - fixtures
    api, build, published, configuration, serving, compared
):
    api.jobs += [
        {**api.jobs[0], "job_id": "failed", "status_code": "FAILED", "files": []},
        {**api.jobs[0], "job_id": "expired", "expiration_time": "2001-01-01T00:00:00+00:00"},
        {**api.jobs[0], "job_id": "autorift", "job_type": "AUTORIFT"},
        {**api.jobs[0], "job_id": "other", "name": "another stack"},
    ]

    code, report, errors = build()

    assert (code, errors) == (0, "")
    assert (report["id"], report["granules"]) == ("my-stack", NAMES)
    assert set(report["left_out"]) == {"failed", "expired", "autorift"}
    app = create_app(load_settings(configuration, {}), {"HYP3_TOKEN": TOKEN})
    with (
        serving(app) as url,
        xr.open_zarr(f"{url}/datasets/my-stack/zarr", chunks=None, zarr_format=2) as cube,
    ):
        for layer in ("corr", "unw_phase"):
            expected = np.stack([np.where(each[layer] == 0, np.nan, each[layer]) for each in published])
            np.testing.assert_array_equal(cube[layer].values, expected)
            compared(expected)


@pytest.mark.parametrize("absent", [404, 403])
def test_geotiffs_beside_the_zip_files_are_read_in_place(  # noqa: PLR0917 - fixtures
    api, build, published, configuration, serving, tmp_path, compared, absent
):
    api.absent = absent
    # of the last one the ZIP file alone
    for name in NAMES[:2]:
        for file in (tmp_path / "made" / name).iterdir():
            api.zips[file.name] = file.read_bytes()

    code, report, errors = build("--in-place")

    assert (code, errors) == (0, "")
    assert (report["granules"], report["copied"]) == (NAMES, {})
    read = {what for what, _ in api.asked if isinstance(what, str)}
    assert f"/files/{NAMES[2]}.zip" in read
    assert not {f"/files/{name}.zip" for name in NAMES[:2]} & read
    app = create_app(load_settings(configuration, {}), {"HYP3_TOKEN": TOKEN})
    with (
        serving(app) as url,
        xr.open_zarr(f"{url}/datasets/my-stack/zarr", chunks=None, zarr_format=2) as cube,
    ):
        expected = np.stack([np.where(each["corr"] == 0, np.nan, each["corr"]) for each in published])
        np.testing.assert_array_equal(cube["corr"].values, expected)
        compared(expected)


def test_geotiffs_of_a_job_that_are_on_another_grid_are_fetched_and_copied(  # noqa: PLR0917 - fixtures
    api, build, configuration, serving, tmp_path, compared
):
    pixels = []
    for n, (name, dates) in enumerate(zip(NAMES, DATES, strict=True)):
        product, each = write_product(tmp_path / "made", name, n, layers=("corr",), shift=(n // 2, 0))
        pixels.append(shifted(each["corr"], n // 2, 0, each["corr"].shape))
        api.add(f"job-{n}", name, b"no ZIP file is read", [scene(date, 30647) for date in dates])
        for file in product.iterdir():
            api.zips[file.name] = file.read_bytes()

    code, report, errors = build("--in-place", "--extent", "usual")

    assert (code, errors) == (0, "")
    assert list(report["copied"]) == NAMES[2:]
    copies = [path.name for path in (tmp_path / "cubes" / "my-stack.copies").iterdir()]
    assert [name[: len(NAMES[2])] for name in copies] == NAMES[2:]
    app = create_app(load_settings(configuration, {}), {"HYP3_TOKEN": TOKEN})
    with (
        serving(app) as url,
        xr.open_zarr(f"{url}/datasets/my-stack/zarr", chunks=None, zarr_format=2) as cube,
    ):
        expected = np.stack([np.where(each == 0, np.nan, each) for each in pixels])
        np.testing.assert_array_equal(cube["corr"].values, expected)
        compared(expected)


def test_the_token_goes_to_the_api_alone(api, build, published):
    assert build()[0] == 0
    asked = [headers for what, headers in api.asked if isinstance(what, dict)]
    assert len(asked) == 2
    assert {headers["Authorization"] for headers in asked} == {f"Bearer {TOKEN}"}
    files = [headers for what, headers in api.asked if isinstance(what, str)]
    assert files
    assert not [headers for headers in files if "Authorization" in headers]


def test_a_second_build_does_not_read_the_zip_files_again(api, build, published):
    assert build()[0] == 0
    api.asked.clear()
    assert build()[0] == 0
    assert {headers.get("Range") for what, headers in api.asked if isinstance(what, str)} <= {
        None,
        "bytes=0-0",
    }


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("--path", "125"), NAMES[:2]),
        (("--path", "126"), NAMES[2:]),
        (("--start", "2020-01-20"), NAMES[1:]),
        (("--end", "2020-01-13"), NAMES[:1]),
        (("--orbit-direction", "ascending"), NAMES),
    ],
)
def test_jobs_are_chosen_by_path_dates_and_direction(api, build, published, options, kept):
    code, report, _ = build(*options)
    assert (code, report["granules"]) == (0, kept)
    assert len(report["left_out"]) == len(NAMES) - len(kept)
    read = {what for what, _ in api.asked if isinstance(what, str)}
    # what names tell already is not fetched
    assert read == {f"/files/{name}.zip" for name in kept}


def test_nothing_is_left_of_a_direction_that_no_product_has(build, published, tmp_path):
    code, _, errors = build("--orbit-direction", "descending")
    assert code == 1
    assert "No product is left" in errors
    assert "is ASCENDING" in errors
    assert not list((tmp_path / "cubes").glob("*.yaml"))


def test_a_next_page_elsewhere_is_not_asked(api, build, published):
    with running_hyp3() as other:
        api.next_url = f"{other.url}/jobs"
        code, _, errors = build()
        assert (code, other.asked) == (1, [])
    assert "links to another server" in errors


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "refuses the token"), (403, "refuses the token"), (400, "does not take the search"),
     (500, "is not available"), (503, "is not available"), (302, "does not take the search")],
)  # fmt: skip
def test_a_refusal_is_told_without_what_the_api_said(api, build, published, status, said):
    api.status = status
    code, _, errors = build()
    assert code == 1
    assert said in errors
    assert "secret" not in errors


@pytest.mark.parametrize(
    "body",
    ["no JSON", "[]", "{}", '{"jobs": 5}', '{"jobs": [{}]}', '{"jobs": [{"job_id": 5, "job_type": "x"}]}',
     '{"jobs": [], "next": 5}', "<html>"],
)  # fmt: skip
def test_an_answer_of_another_shape_is_an_error(api, build, body):
    api.body = body
    code, _, errors = build()
    assert code == 1
    assert "does not answer as the HyP3 API does" in errors or "links to another server" in errors


def test_a_project_without_jobs_is_an_error(build, api):
    code, _, errors = build()
    assert code == 1
    assert "No job that succeeded is left" in errors


def test_without_hyp3_sdk_the_message_says_what_to_install(api, build, monkeypatch):
    monkeypatch.setitem(sys.modules, "hyp3_sdk", None)
    code, _, errors = build()
    assert (code, api.asked) == (1, [])
    assert "the package hyp3-sdk is not installed. Install cubegate[hyp3]." in errors


def test_an_api_that_no_upstream_covers_is_not_asked(api, build, published, configuration):
    configuration.write_text(f'archives: {{hyp3: "{api.url}"}}\nupstreams: {{"{api.url}/files/": {{}}}}\n')
    code, _, errors = build()
    assert (code, api.asked) == (1, [])
    assert "no upstream covers" in errors
    assert "kind earthdata" in errors


def test_an_upstream_without_a_token_is_not_enough(api, build, published, configuration):
    configuration.write_text(f'archives: {{hyp3: "{api.url}"}}\nupstreams: {{"{api.url}/": {{}}}}\n')
    code, _, errors = build()
    assert (code, api.asked) == (1, [])
    assert "no credentials that give a token" in errors
