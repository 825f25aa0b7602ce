"""From a search to a mounted cube of OPERA DISP-S1, against an archive that answers as NASA's does."""

import contextlib
import json
import shlex
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest
from tests.unit.archives.archive import FRAME, granule_name

from cubegate.app import create_app
from cubegate.archives.cmr import CMR, Granule
from cubegate.archives.opera import Product, Wanted, choose
from cubegate.cli import main
from cubegate.errors import UpstreamMismatch, UpstreamUnavailable
from cubegate.settings import load_settings

README = Path(__file__).resolve().parents[3] / "README.md"
SECONDARY = ["20200104T140734", "20200116T140733", "20200128T140733"]


@pytest.fixture
def publish(archive, tmp_path, write_granule, scan_granule):
    """Publish a granule of one date; returns its name and values."""

    def publish(number, **options):
        named = {key: options.pop(key) for key in ("production", "version", "polarization") if key in options}
        name = granule_name(SECONDARY[number], **named)
        path = tmp_path / f"{name}.nc"
        values = write_granule(path, len(archive.granules), **options)
        archive.add(name, path, scan_granule(path, inline_threshold=0))
        return name, values

    return publish


@pytest.fixture
def build(configuration, tmp_path, capsys):
    """Run the command; returns its exit code, and what it printed."""

    def build(*options):
        cubes = str(tmp_path / "cubes")
        code = main(
            [
                "build",
                "opera-disp-s1",
                "--frame",
                str(FRAME),
                "-o",
                cubes,
                "--config",
                str(configuration),
                *options,
            ]
        )
        return code, capsys.readouterr()

    return build


@pytest.fixture
def server(configuration, serving):
    """Serve what has been built while the context lasts; gives a client."""

    @contextlib.contextmanager
    def server():
        app = create_app(load_settings(configuration, {}), {})
        with serving(app) as url, httpx.Client(base_url=url) as client:
            yield client

    return server


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_build_ends_with_a_mounted_cube(publish, build, server, tmp_path, compared):
    made = dict(publish(number) for number in (2, 0, 1))
    code, said = build()
    assert code == 0, said.err
    assert "3 dates from 2020-01-04T14:07:34Z to 2020-01-28T14:07:33Z" in said.out
    with server() as client:
        for name, values in made.items():
            with h5py.File(tmp_path / f"{name}.nc") as file:
                assert np.array_equal(file["displacement"][:], values)
            number = SECONDARY.index(name.split("_")[7].removesuffix("Z"))
            for row in range(3):
                for column in range(3):
                    chunk = client.get(
                        f"/datasets/opera-f{FRAME}/zarr-plain/displacement/{number}.{row}.{column}"
                    ).content
                    part = values[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
                    got = np.frombuffer(chunk, "<f4").reshape(8, 8)[: part.shape[0], : part.shape[1]]
                    assert np.array_equal(got, part)
            compared(values)
        times = client.get(f"/datasets/opera-f{FRAME}/timeseries?x=500000&y=4000000&f=csv").text
    assert [line[:20] for line in times.splitlines() if line.startswith("2020")] == [
        "2020-01-04T14:07:34Z", "2020-01-16T14:07:33Z", "2020-01-28T14:07:33Z",
    ]  # fmt: skip
    assert not list((tmp_path / "cubes").glob(".*"))


def test_the_lines_of_the_readme_work(publish, archive, tmp_path, monkeypatch, capsys):
    lines = [
        shlex.split(line)[1:]
        for line in README.read_text("utf-8").splitlines()
        if line.startswith(("cubegate search opera-disp-s1", "cubegate build opera-disp-s1"))
    ]
    for number in range(3):
        publish(number)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUBEGATE_ARCHIVES__CMR", archive.url)
    (search, build) = lines
    assert main(search) == 0
    assert "11116" in capsys.readouterr().out
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "cubegate.yaml").write_text(f'upstreams: {{"{archive.url}/data/": {{}}}}')
    assert main(build) == 0
    assert visible(tmp_path / "config" / "collections") == [
        "opera-f11116.build.json",
        "opera-f11116.index",
        "opera-f11116.yaml",
    ]


def test_a_replaced_granule_is_an_error(publish, build, archive, server):
    name, _ = publish(0)
    publish(1)
    assert build()[0] == 0
    archive.files[f"{name}.nc"] = archive.files[f"{name}.nc"][:-1] + b"x"
    with server() as client:
        assert client.get(f"/datasets/opera-f{FRAME}/zarr/displacement/0.0.0").status_code == 502
        assert client.get(f"/datasets/opera-f{FRAME}/zarr/displacement/1.0.0").status_code == 200


def test_the_report_names_what_is_left_out_and_why(publish, build, archive):
    old, _ = publish(0, production="20240101T000000")
    new, _ = publish(0, production="20250101T000000")
    other, _ = publish(1, polarization="HH")
    kept, _ = publish(1)
    archive.granules.append("OPERA_L3_OTHER")
    code, said = build("--json", "--polarization", "VV")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["granules"] == [new, kept]
    assert report["left_out"] == {
        old: f"was produced again as {new}",
        other: "has polarization HH",
        "OPERA_L3_OTHER": "is no DISP-S1 product by its name",
    }
    assert report["notes"] == []
    assert report["not_served"] == {}


def test_dates_bound_the_secondary_one_inclusively(publish, build, archive):
    names = [publish(number)[0] for number in range(3)]
    code, said = build("--json", "--start", "2020-01-05", "--end", "2020-01-16")
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["granules"] == [names[1]]
    assert report["left_out"] == {names[0]: "is before the first date", names[2]: "is after the last date"}
    asked, _ = archive.searches[0]
    assert ("temporal", "2020-01-05T00:00:00Z,2020-01-16T23:59:59Z") in asked
    assert ("attribute[]", f"int,FRAME_NUMBER,{FRAME}") in asked
    assert ("short_name", "OPERA_L3_DISP-S1_V1") in asked


@pytest.mark.parametrize("fault", ["broken", "lost", "cut"])
def test_a_build_that_fails_mounts_nothing_and_goes_on_where_it_was(publish, build, archive, tmp_path, fault):
    names = [publish(number)[0] for number in range(3)]
    sidecar = f"{names[1]}.zarr.json.gz"
    data = archive.files[sidecar]
    if fault == "broken":
        archive.broken.add(sidecar)
    else:
        # listed all the same
        archive.files[sidecar] = data[: len(data) // 2] if fault == "cut" else b""
    code, said = build()
    assert code == 1
    assert f"1 of 3 granules cannot be used: {names[1]}: " in " ".join(said.err.split())
    assert visible(tmp_path / "cubes") == []
    archive.broken.clear()
    archive.files[sidecar] = data
    archive.asked.clear()
    assert build()[0] == 0
    assert {name for name in archive.asked if name.endswith(".gz")} == {sidecar}
    assert {path.name for path in (tmp_path / "cubes").iterdir()} == {
        f"opera-f{FRAME}.build.json",
        f"opera-f{FRAME}.index",
        f"opera-f{FRAME}.yaml",
    }


def test_a_changed_grid_is_named(publish, build, tmp_path):
    publish(0)
    name, _ = publish(1, west=500_030.0)
    code, said = build()
    assert code == 1
    assert f"The grid of {name} differs" in " ".join(said.err.split())
    assert visible(tmp_path / "cubes") == []


def test_missing_chunks_are_allowed_by_name_alone(publish, build):
    publish(0)
    name, _ = publish(1, skip_rows=8)
    publish(2)
    code, said = build()
    assert code == 1
    assert f"lacks chunks that the granules beside have, in {name}" in " ".join(said.err.split())
    code, said = build("--allow-gaps", "displacement", "--allow-gaps", "corrections/delay")
    assert code == 0, said.err


def test_granules_without_references_or_without_an_upstream_are_named(publish, build, archive, configuration):
    name, _ = publish(0)
    text = configuration.read_text()
    configuration.write_text(text.replace("/data/", "/elsewhere/"))
    code, said = build()
    assert code == 1
    assert f"No upstream may read the references of {name}" in " ".join(said.err.split())
    configuration.write_text(text)
    del archive.files[f"{name}.zarr.json.gz"]
    del archive.files[f"{name}.nc"]
    code, said = build()
    assert code == 1
    assert f"{name} ships no references" in " ".join(said.err.split())


def test_nothing_found_is_said(build):
    code, said = build()
    assert code == 1
    assert "found no product" in said.err


def test_search_lists_frames_and_their_outlines(publish, archive, configuration, capsys, tmp_path):
    for number in range(3):
        publish(number)
    archive.granules.append(granule_name(SECONDARY[0], frame=11117))
    options = ["--bbox=-118.5,34,-118,35", "--config", str(configuration)]
    assert main(["search", "opera-disp-s1", *options, "--geojson", str(tmp_path / "f.geojson")]) == 0
    said = capsys.readouterr().out
    assert "4 products of 2 frames" in said
    assert "11116" in said
    assert ("bounding_box", "-118.5,34,-118,35") in archive.searches[0][0]
    features = json.loads((tmp_path / "f.geojson").read_text())["features"]
    assert [feature["properties"]["frame"] for feature in features] == [11116, 11117]
    assert features[0]["geometry"]["coordinates"][0][0][0] == [-119, 34]
    assert main(["search", "opera-disp-s1", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "frame": 11116, "products": 3, "polarizations": ["VV"],
        "first": "2020-01-04T14:07:34Z", "last": "2020-01-28T14:07:33Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--frame or --bbox"),
        (["--bbox=1,2,3"], "west,south,east,north"),
        (["--bbox=a,b,c,d"], "west,south,east,north"),
        (["--frame", "1", "--start", "2020"], "dates such as 2020-01-31"),
        (["--frame", "1", "--end", "2020-02-30"], "dates such as 2020-01-31"),
    ],
)
def test_what_cannot_be_asked_says_what_could(options, message, capsys):
    assert main(["search", "opera-disp-s1", *options]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


async def test_a_search_follows_all_pages(archive):
    archive.granules = [granule_name(f"20200{month}04T140734") for month in range(1, 8)]
    seen = []
    found = await CMR(archive.url).granules([("short_name", "x")], lambda *so_far: seen.append(so_far))
    assert [granule.name for granule in found] == archive.granules
    assert [after for _, after in archive.searches] == [None, "[2]", "[4]", "[6]", "[7]"]
    assert seen[-1] == (7, 7)


async def test_a_list_that_ends_early_is_an_error(archive):
    archive.granules = [granule_name(SECONDARY[0])]
    archive.hits = 3
    with pytest.raises(UpstreamMismatch, match="there are 3 granules, and listed 1"):
        await CMR(archive.url).granules([])


async def test_an_archive_that_is_not_there(monkeypatch):
    monkeypatch.setattr("cubegate.archives.cmr._PAUSES", (0.01,))
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await CMR("http://127.0.0.1:9").granules([])


def test_of_two_productions_the_newest_is_taken_whatever_their_order():
    names = [granule_name(SECONDARY[0], production=f"2025{month:02}01T000000") for month in (3, 9, 1)]
    granules = [Granule(name, (), {}) for name in names]
    for order in (granules, granules[::-1]):
        choice = choose(order, Wanted(FRAME))
        assert [product.name for product in choice.products] == [names[1]]
        assert set(choice.left_out) == {names[0], names[2]}


@pytest.mark.parametrize("name", ["", "OPERA_L3_DISP-S1_IW_F1_VV", granule_name(SECONDARY[0]) + "_extra"])
def test_other_names_are_no_products(name):
    assert Product.of(Granule(name, (), {})) is None
