"""The documentation page, made from the OpenAPI documents alone.

FastAPI's own pages load Swagger UI from other people's servers: they stay blank where there is no
way out, and hand scripts from elsewhere the page on which an API key is typed. This page needs
nothing but this service, and can send each request.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

__all__ = ["SCRIPT", "STYLE", "page"]


def page(public: dict[str, Any], console: dict[str, Any]) -> str:
    """Return the page for the two documents; the console's routes stand last."""
    info, behind = public["info"], console["info"]
    body = (
        f"{_sections(public)}<h1>{escape(behind['title'])}</h1>"
        f"<p>{escape(behind['description'])} "
        f'<a href="openapi-console.json">Its OpenAPI document</a>.</p>{_sections(console)}'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title>"
        '<link rel="stylesheet" href="docs/style.css"></head><body>'
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info['description'])} "
        '<a href="openapi.json">OpenAPI document</a>, <a href="problems">problem types</a>, '
        '<a href="console">console</a>.</p>'
        '<p><label>API key, where one is needed <input id="key" type="password" '
        'autocomplete="off"></label></p>'
        f'{body}<script src="docs/script.js"></script></body></html>'
    )


def _sections(document: dict[str, Any]) -> str:
    return "".join(
        f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>"
        + "".join(
            _operation(document, method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if operation["tags"] == [tag["name"]]
        )
        for tag in document["tags"]
    )


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = operation.get("parameters", [])
    content = operation.get("requestBody", {}).get("content", {})
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><b class="{method}">'
        f"{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        f'<form data-method="{method.upper()}" data-path="{escape(path)}">'
        f"{_parameters(parameters)}{_body(document, content)}"
        '<button>Send</button><pre class="answer" hidden></pre></form>'
        f"{_responses(document, operation['responses'])}</details>"
    )


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}"
        f"<td>{escape(_kind(one.get('schema', {})))}"
        f'<td><input data-in="{escape(one["in"])}" name="{escape(one["name"])}"'
        f"{' required' if one.get('required') else ''}>"
        f"<td>{escape(one.get('description', ''))}"
        for one in parameters
    )
    return f"<table><tr><th>Name<th>In<th>Type<th>Value<th>{rows}</table>" if rows else ""


def _body(document: dict[str, Any], content: dict[str, Any]) -> str:
    if not content:
        return ""
    options = "".join(f"<option>{escape(media)}" for media in content)
    first = next(iter(content.values()))
    example = first.get("example", _example(document, first["schema"]))
    text = escape(json.dumps(example, indent=2))
    schema = _schema(document, first["schema"])
    return f"<p>Body <select>{options}</select></p><textarea>{text}</textarea>{schema}"


def _responses(document: dict[str, Any], responses: dict[str, Any]) -> str:
    rows = ""
    for status, response in sorted(responses.items()):
        content = response.get("content", {})
        schema: dict[str, Any] = next((one["schema"] for one in content.values()), {})
        rows += (
            f"<tr><td>{escape(status)}<td>{escape(response.get('description', ''))}"
            f"<td>{escape(', '.join(content))}<td>{_schema(document, schema)}"
        )
    return f"<table><tr><th>Status<th>Meaning<th>Media type<th>Body{rows}</table>"


def _schema(document: dict[str, Any], schema: dict[str, Any]) -> str:
    members = _resolved(document, schema).get("properties")
    if not members:
        return escape(_kind(schema))
    needed = _resolved(document, schema).get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in needed else ''}"
        f"<td>{escape(_kind(member))}<td>{escape(member.get('description', ''))}"
        for name, member in members.items()
    )
    return f"<details><summary>{escape(_kind(schema))}</summary><table>{rows}</table></details>"


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target: dict[str, Any] = document["components"]["schemas"][name]
        return target
    return schema


def _kind(schema: dict[str, Any]) -> str:
    if schema.get("nullable"):
        return f"{_kind({**schema, 'nullable': False})} or null"
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_kind(one) for one in schema[several])
    if "enum" in schema:
        return " | ".join(json.dumps(one) for one in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    limits = [f"{word} {schema[name]}" for name, word in _LIMITS.items() if name in schema]
    shape = f"({schema['format']})" if schema.get("format") in _TOLD else ""
    return " ".join(part for part in (str(schema.get("type", "")), shape, *limits) if part)


def _example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    schema = _resolved(document, schema)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            return {name: _example(document, members[name]) for name in schema.get("required", [])}
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return ""


_TOLD = {"date-time", "uuid"}
_LIMITS = {
    "minLength": "min length",
    "maxLength": "max length",
    "minimum": "from",
    "maximum": "to",
    "default": "default",
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff }
h1 small { font-weight: normal; color: #667 }
h2 { margin-top: 2rem; text-transform: capitalize }
summary { cursor: pointer; padding: .35rem 0 }
body > details { border-bottom: 1px solid #dde2ea }
b { display: inline-block; min-width: 3.6rem }
b.post { color: #166a3c } b.get { color: #1c4f9c }
table { border-collapse: collapse; margin: .6rem 0; font-size: 14px }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
textarea { width: 100%; min-height: 9rem; font: 13px/1.4 ui-monospace, monospace }
pre { background: #f4f6f9; padding: .8rem; overflow: auto; white-space: pre-wrap }
button { margin: .4rem 0 }
@media (prefers-color-scheme: dark) {
  body { color: #dfe5ee; background: #14181f } pre { background: #1e242e }
  a { color: #8ab4f8 } b.post { color: #6fcf97 } b.get { color: #8ab4f8 }
  body > details { border-color: #323a46 }
}
"""

SCRIPT = """
for (const form of document.forms) form.addEventListener("submit", async (event) => {
  event.preventDefault();
  let path = form.dataset.path;
  const query = new URLSearchParams(), headers = {};
  for (const input of form.querySelectorAll("input[data-in]")) {
    if (!input.value) continue;
    if (input.dataset.in === "path")
      path = path.replace("{" + input.name + "}", encodeURIComponent(input.value));
    else if (input.dataset.in === "query") query.set(input.name, input.value);
    else headers[input.name] = input.value;
  }
  const key = document.getElementById("key").value;
  if (key) headers["Authorization"] = "Bearer " + key;
  const options = { method: form.dataset.method, headers };
  const text = form.querySelector("textarea");
  if (text) {
    options.body = text.value;
    headers["Content-Type"] = form.querySelector("select").value;
  }
  const answer = form.querySelector(".answer");
  answer.hidden = false;
  try {
    const response = await fetch(path.slice(1) + (query.size ? "?" + query : ""), options);
    const body = await response.text();
    let shown = body;
    try { shown = JSON.stringify(JSON.parse(body), null, 2); } catch { }
    answer.textContent = response.status + " " + response.statusText + "\\n\\n" + shown;
  } catch (error) { answer.textContent = String(error); }
});
"""
