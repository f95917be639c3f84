// Requests to this service, each marked as the console's own: no other site's page can set that.

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail || problem?.title || `The service answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

async function call(method, path, body) {
  const headers = { "X-Crossfade-Console": "1", Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    text = await response.text();
  } catch {
    throw new Refused(0, { detail: "The service does not answer." });
  }
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    /* a proxy's own page */
  }
  if (!response.ok) {
    if (response.status === 401) document.dispatchEvent(new Event("signed-out"));
    throw new Refused(response.status, content);
  }
  return content;
}

export const get = (path, query) => {
  const given = Object.entries(query ?? {}).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  const text = new URLSearchParams(given).toString();
  return call("GET", text ? `${path}?${text}` : path);
};
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);
