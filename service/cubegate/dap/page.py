"""The page of a DAP2 dataset for people: what there is, what its parts are called, and addresses to paste."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape

from cubegate.dap.constraint import Part
from cubegate.dap.types import BYTE, FLOAT32, FLOAT64, INT16, INT32
from cubegate.dap.variables import DapVariable

STYLE = """:root{color-scheme:light dark;
--page:#f5f7f8;--panel:#fff;--text:#16232b;--quiet:#4d5f69;--line:#c6d0d5;--accent:#135f79}
@media(prefers-color-scheme:dark){:root{
--page:#11181c;--panel:#1a242a;--text:#e8eff2;--quiet:#a7b7bf;--line:#3a4a53;--accent:#7cc7e0}}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main{max-width:70rem;margin:0 auto;padding:1rem 1.25rem 3rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:1.75rem 0 .5rem}
a{color:var(--accent)}p,ul{margin:.5rem 0}.quiet{color:var(--quiet)}
code,pre{font:.875rem/1.6 ui-monospace,monospace}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.375rem;padding:.75rem;overflow-x:auto}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;background:var(--panel);border:1px solid var(--line)}
th,td{text-align:left;vertical-align:top;padding:.4rem .75rem;border-bottom:1px solid var(--line)}
thead th{color:var(--quiet);font-weight:600}tbody th{font-weight:400}
a:focus-visible,.wide:focus-visible,pre:focus-visible{outline:2px solid var(--accent);outline-offset:2px}"""
DOCUMENTS = {
    "dds": "the structure: names, types, sizes",
    "das": "the attributes",
    "ver": "the version of the protocol",
}
# values along each of the last two dimensions that a first look shows
_CORNER = 5


def policy() -> str:
    """Return the Content-Security-Policy, by which a browser refuses all but the style of the page."""
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    allowed = f"default-src 'none'; style-src 'sha256-{style}'"
    return f"{allowed}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def write_page(title: str, address: str, variables: Iterable[DapVariable]) -> str:
    """Write the page of the dataset at `address`, which clients are given; links are relative to it."""
    shown = list(variables)
    name = escape(title)
    rows = "\n".join(map(_row, shown))
    documents = "\n".join(
        f'<li><a href="opendap.{suffix}">.{suffix}</a> {text}</li>' for suffix, text in DOCUMENTS.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: OPeNDAP</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{name}</h1>
<p class="quiet">A dataset for OPeNDAP clients, by DAP2.</p>
<h2>The address to paste</h2>
<pre tabindex="0" aria-label="address">{escape(address)}</pre>
<p>netCDF tools, pydap, xarray and R open it as it stands, as if it were a file:</p>
<pre tabindex="0" aria-label="examples">{escape(_examples(address, shown))}</pre>
<h2>Documents</h2>
<ul>
{documents}
</ul>
<h2>Variables</h2>
<div class="wide" tabindex="0" role="region" aria-label="variables">
<table>
<thead><tr><th scope="col">name</th><th scope="col">dimensions</th><th scope="col">type</th>\
<th scope="col">what it is</th><th scope="col">look at</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<h2>Parts</h2>
<p>Behind a <code>?</code> the addresses of <code>.ascii</code> (text) and <code>.dods</code> (binary) take
names, separated by commas, each with <code>[start:stride:stop]</code> for all of its dimensions; counting
starts at 0, and <code>stop</code> is included.</p>
{_part(address, shown)}
</main>
</body>
</html>
"""


def _examples(address: str, variables: list[DapVariable]) -> str:
    lines = [f"ncdump -h {address}"]
    if variables:
        lines.append(f"ncks -O -v {_telling(variables).name} {address} part.nc")
    return "\n".join([*lines, f'xarray.open_dataset("{address}", engine="netcdf4")'])


def _telling(variables: list[DapVariable]) -> DapVariable:
    """The variable for examples: the first of the largest ones, measured ones before flags and counts."""
    kinds = (BYTE, INT32, INT16, FLOAT64, FLOAT32)

    def rank(variable: DapVariable) -> tuple[int, int, int]:
        kind = kinds.index(variable.dap_type) if variable.dap_type in kinds else -1
        return len(variable.shape), variable.variable.size, kind

    return max(variables, key=rank)


def _corner(variable: DapVariable) -> str:
    """The projection of a few values: the first of the leading dimensions, more of the last two."""
    axes = range(-len(variable.shape), 0)
    sizes = [min(size, _CORNER if axis >= -2 else 1) for axis, size in zip(axes, variable.shape, strict=True)]
    return Part(variable, tuple(slice(0, size, 1) for size in sizes)).text


def _part(address: str, variables: list[DapVariable]) -> str:
    if not variables or not all(_telling(variables).shape):
        return ""
    asked = f"{address}.ascii?{_corner(_telling(variables))}"
    return f'<pre tabindex="0" aria-label="example of a part">curl -g "{escape(asked)}"</pre>'


def _row(variable: DapVariable) -> str:
    name = escape(variable.name)
    dims = zip(variable.dims, variable.shape, strict=True)
    sizes = ", ".join(f"{escape(dim)}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{size}" for dim, size in dims)
    what = escape("; ".join(_told(variable)))
    empty = not all(variable.shape)
    href = f"opendap.ascii?{escape(_corner(variable))}"
    link = f'<a href="{href}" aria-label="values of {name}">values</a>'
    return (
        f'<tr><th scope="row"><code>{name}</code></th><td>{sizes or "one value"}</td>'
        f"<td>{variable.dap_type.name}</td><td>{what}</td><td>{'no values' if empty else link}</td></tr>"
    )


def _told(variable: DapVariable) -> Iterator[str]:
    for key in ("long_name", "standard_name", "description"):
        value = variable.attributes.get(key)
        if isinstance(value, str) and value.strip():
            yield value.strip()
            break
    units = variable.attributes.get("units")
    if isinstance(units, str) and units.strip() not in ("", "1"):
        yield f"in {units.strip()}"
