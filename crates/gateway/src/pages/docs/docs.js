"use strict";
(() => {
  const MOST_SHOWN = 200000;
  const token = document.getElementById("token");

  function address(form) {
    let path = form.dataset.path;
    const query = new URLSearchParams();
    for (const field of form.querySelectorAll("[data-in]")) {
      const value = field.value.trim();
      if (field.dataset.in === "path") {
        path = path.replace("{" + field.name + "}", encodeURIComponent(value));
      } else if (field.dataset.in === "query" && value) {
        const values = "list" in field.dataset ? value.split(/[\s,]+/) : [value];
        values.filter(Boolean).forEach((one) => query.append(field.name, one));
      }
    }
    return query.size || String(query) ? path + "?" + query : path;
  }

  function pretty(text) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }

  async function send(form) {
    const status = form.querySelector(".status");
    const result = form.querySelector(".result");
    const stop = form.querySelector(".stop");
    const body = form.querySelector("[data-in=body]");
    const headers = {};
    if (token.value.trim()) headers.Authorization = "Bearer " + token.value.trim();
    if (body) headers["Content-Type"] = "application/json";
    if (form.dataset.verb !== "GET" && crypto.randomUUID) headers["Idempotency-Key"] = crypto.randomUUID();
    const control = new AbortController();
    stop.hidden = !("stream" in form.dataset);
    stop.onclick = () => control.abort();
    status.textContent = "…";
    result.hidden = true;
    result.textContent = "";
    const began = performance.now();
    try {
      const answer = await fetch(address(form), {
        method: form.dataset.verb,
        headers,
        body: body ? body.value : undefined,
        signal: control.signal,
      });
      const id = answer.headers.get("x-request-id") || "";
      status.textContent = [answer.status, Math.round(performance.now() - began) + " ms", id].filter(Boolean).join(" · ");
      status.className = answer.ok ? "status good" : "status bad";
      result.hidden = false;
      if ((answer.headers.get("content-type") || "").startsWith("text/event-stream")) {
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          result.textContent = (result.textContent + value).slice(-MOST_SHOWN);
          result.scrollTop = result.scrollHeight;
        }
      } else {
        result.textContent = pretty(await answer.text()).slice(0, MOST_SHOWN);
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        status.textContent = "No answer: " + error.message;
        status.className = "status bad";
      }
    } finally {
      stop.hidden = true;
    }
  }

  document.addEventListener("submit", (event) => {
    event.preventDefault();
    send(event.target);
  });

  document.addEventListener("click", async (event) => {
    if (!event.target.matches(".copy")) return;
    const text = event.target.parentElement.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      event.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(event.target.parentElement.querySelector("code"));
      event.target.textContent = "Selected";
    }
    setTimeout(() => (event.target.textContent = "Copy"), 1500);
  });

  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase();
    for (const item of document.querySelectorAll(".side li li")) {
      item.hidden = !item.textContent.toLowerCase().includes(words);
    }
  });
})();
