"""One cube whose references and granules lie in three private buckets, each opened by keys of its own."""

import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from fsspec.implementations.reference import LazyReferenceMapper
from tests.s3_server import checked_access, connect, new_keys, running_s3

from cubegate.app import open_catalog
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import open_upstreams
from cubegate.conversions.references import index_source
from cubegate.credentials import open_credentials
from cubegate.errors import UpstreamDenied
from cubegate.settings import load_settings

BUCKETS = ("a-references", "b-granules", "c-granules")


@pytest.fixture(scope="module")
def stack(make_stack, tmp_path_factory):
    """A stack whose first granule is in one bucket and whose others are in another, as its references say."""
    stack = make_stack(tmp_path_factory.mktemp("buckets") / "stack")
    references = json.loads(stack.references.read_text("utf-8"))
    for number, granule in enumerate(stack.granules):
        bucket = BUCKETS[1] if number == 0 else BUCKETS[2]
        for reference in references["refs"].values():
            if isinstance(reference, list) and reference[0].endswith(str(granule)):
                reference[0] = f"s3://{bucket}/{granule.name}"
    stack.references.write_text(json.dumps(references), "utf-8")
    stack.parquet = stack.references.parent / "stack.parq"
    mapper = LazyReferenceMapper.create(str(stack.parquet), record_size=10, engine="pyarrow")
    for key, value in sorted(references["refs"].items()):
        mapper[key] = value
    mapper.flush()
    return stack


@pytest.fixture(scope="module")
def store(stack):
    """An S3 endpoint that checks signatures and policies, with the three buckets filled."""
    with running_s3() as endpoint:
        s3, iam = connect("s3", endpoint), connect("iam", endpoint)
        for bucket in BUCKETS:
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="x.bin", Body=bucket.encode())
        for number, granule in enumerate(stack.granules):
            bucket = BUCKETS[1] if number == 0 else BUCKETS[2]
            s3.put_object(Bucket=bucket, Key=granule.name, Body=granule.read_bytes())
        s3.put_object(Bucket=BUCKETS[0], Key="stack.json", Body=stack.references.read_bytes())
        for file in stack.parquet.rglob("*"):
            if file.is_file():
                key = f"stack.parq/{file.relative_to(stack.parquet).as_posix()}"
                s3.put_object(Bucket=BUCKETS[0], Key=key, Body=file.read_bytes())
        keys = {bucket: new_keys(iam, bucket) for bucket in BUCKETS}
        s3.close()
        iam.close()
        with checked_access():
            yield SimpleNamespace(endpoint=endpoint, keys=keys)


@pytest.fixture
def environment(store):
    """The keys as environment variables, KEY_0 and SECRET_0 for the first bucket."""
    found = {}
    for number, bucket in enumerate(BUCKETS):
        found[f"KEY_{number}"], found[f"SECRET_{number}"] = store.keys[bucket]
    return found


@pytest.fixture
def settings(store, tmp_path, write_configuration):
    """Settings that open each bucket with the keys of the number that is given for it."""

    def configured(*numbers, **collections):
        file = write_configuration(tmp_path, **collections)
        lines = ["credentials:"]
        lines += [
            f"  keys-{n}: {{kind: s3, access_key_id_env: KEY_{n}, secret_access_key_env: SECRET_{n}}}"
            for n in range(3)
        ]
        lines += ["upstreams:", f"  '{tmp_path.as_uri()}/': {{}}"]
        lines += [
            f"  's3://{bucket}/': {{credentials: keys-{number}, endpoint_url: '{store.endpoint}'}}"
            for bucket, number in zip(BUCKETS, numbers, strict=True)
        ]
        file.write_text("\n".join(lines), "utf-8")
        return load_settings(file, {})

    return configured


@pytest.fixture
async def opened(environment):
    async with contextlib.AsyncExitStack() as closing:

        def opened(settings):
            catalog, upstreams, bridge, cache = open_catalog(settings, environment)
            closing.callback(bridge.close)
            closing.push_async_callback(cache.aclose)
            closing.push_async_callback(upstreams.aclose)
            return catalog, upstreams

        yield opened


@pytest.mark.parametrize("number", range(3))
async def test_each_set_of_keys_is_refused_on_the_others_buckets(settings, environment, number):
    configured = settings(number, number, number)
    upstreams = open_upstreams(configured.upstreams, open_credentials(configured.credentials, environment))
    for other, bucket in enumerate(BUCKETS):
        reference = ChunkReference(f"s3://{bucket}/x.bin")
        if other == number:
            assert await upstreams.get(reference) == bucket.encode()
            assert (await upstreams.stat(reference.url)).nbytes == len(bucket)
            continue
        for read in (
            upstreams.get(reference),
            upstreams.stat(reference.url),
            upstreams.list(f"s3://{bucket}/"),
        ):
            with pytest.raises(UpstreamDenied):
                await read
    refusing = {f"s3://{bucket}/" for other, bucket in enumerate(BUCKETS) if other != number}
    assert {one.upstream for one in upstreams.states.refusing} == refusing
    await upstreams.aclose()


FORMS = ("stack.json", "stack.parq", "index")


async def source_of(form, settings, environment, folder):
    """The source of a collection whose references have this form."""
    if form != "index":
        return f"source: {{kind: kerchunk, href: 's3://{BUCKETS[0]}/{form}'}}"
    await index_source(
        settings(0, 1, 2),
        environment,
        f"s3://{BUCKETS[0]}/stack.json",
        folder / "stack.index",
        group="",
        fill="auto",
        allow_missing_partitions=(),
        progress=lambda *_: None,
    )
    return "source: {kind: index, href: ../stack.index}"


@pytest.mark.parametrize("form", FORMS)
async def test_a_cube_over_three_buckets_gives_the_values_of_its_granules(
    settings, environment, opened, stack, tmp_path, *, form
):
    source = await source_of(form, settings, environment, tmp_path)
    catalog, upstreams = opened(settings(0, 1, 2, cube=source))
    cube = await catalog.get("cube")
    dataset = await cube.dataset()
    values = (await dataset.displacement.load_async()).values
    np.testing.assert_array_equal(values, stack.displacement)
    assert upstreams.states.refusing == ()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("numbers", "refusing"), [((0, 2, 2), "b"), ((0, 1, 1), "c"), ((0, 0, 0), "bc")])
async def test_with_the_keys_of_another_bucket_there_are_no_values_at_all(
    settings, environment, opened, tmp_path, *, form, numbers, refusing
):
    source = await source_of(form, settings, environment, tmp_path)
    if form != "index":
        # what fill means is not to be asked of granules that cannot be read
        source = source.replace("href", "fill: declared, href")
    catalog, upstreams = opened(settings(*numbers, cube=source))
    cube = await catalog.get("cube")
    for number in range(3):
        reading = cube.store.get(cube.store.hierarchy.arrays["displacement"], (number, 0, 0))
        if ("b" if number == 0 else "c") in refusing:
            with pytest.raises(UpstreamDenied):
                await reading
        else:
            assert await reading
    assert {one.upstream[5] for one in upstreams.states.refusing} == set(refusing)


async def test_references_that_the_keys_do_not_open_are_no_cube(settings, opened):
    source = f"source: {{kind: kerchunk, href: 's3://{BUCKETS[0]}/stack.json'}}"
    catalog, upstreams = opened(settings(1, 1, 2, cube=source))
    with pytest.raises(UpstreamDenied):
        await catalog.get("cube")
    assert [one.upstream for one in upstreams.states.refusing] == [f"s3://{BUCKETS[0]}/"]
