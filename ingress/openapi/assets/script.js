for (const form of document.forms)
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let path = form.dataset.path;
    const query = new URLSearchParams(),
      headers = {};
    for (const input of form.querySelectorAll("input[data-in]")) {
      if (!input.value) continue;
      if (input.dataset.in === "path")
        path = path.replace("{" + input.name + "}", encodeURIComponent(input.value));
      else if (input.dataset.in === "query") query.set(input.name, input.value);
      else headers[input.name] = input.value;
    }
    const key = document.getElementById("key").value;
    if (key) headers.Authorization = `Bearer ${key}`;
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
      try {
        shown = JSON.stringify(JSON.parse(body), null, 2);
      } catch {}
      answer.textContent = response.status + " " + response.statusText + "\n\n" + shown;
    } catch (error) {
      answer.textContent = String(error);
    }
  });
