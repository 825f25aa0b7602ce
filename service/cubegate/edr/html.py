"""The documents of the standards as plain HTML pages, for people who follow the links."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "dt{font-weight:600}"
)
_SHOWN = 200


def page(document: Mapping[str, Any]) -> str:
    """Write a JSON document as a page; `links` are links, and lists are cut where they are long."""
    title = escape(str(document.get("title") or document.get("id") or "cubegate: OGC APIs"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>{_mapping(document)}</main></body></html>\n"
    )


def _mapping(members: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(str(name))}</dt><dd>{_value(name, value)}</dd>" for name, value in members.items())
    return f"<dl>{''.join(rows)}</dl>"


def _value(name: str, value: Any) -> str:
    if name in ("links", "link"):
        links = value if isinstance(value, list) else [value]
        return f"<ul>{''.join(f'<li>{_link(each)}</li>' for each in links)}</ul>"
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list):
        shown = "".join(f"<li>{_value('', each)}</li>" for each in value[:_SHOWN])
        more = f"<li>and {len(value) - _SHOWN} more</li>" if len(value) > _SHOWN else ""
        return f"<ul>{shown}{more}</ul>"
    return escape(str(value))


def _link(link: Mapping[str, Any]) -> str:
    href = str(link["href"])
    text = escape(str(link.get("title") or href))
    return (
        f'<a href="{escape(href)}" rel="{escape(str(link["rel"]))}">{text}</a> ({escape(str(link["rel"]))})'
    )
