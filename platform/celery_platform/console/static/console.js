/* Look again every few seconds, but never while somebody is writing, reading an opened form or marking text. */
(function () {
  "use strict";

  const page = document.getElementById("pf");
  const lost = document.getElementById("pf-lost");
  if (!page || !Number(page.dataset.refresh)) return;

  function isBusy() {
    const active = document.activeElement;
    const inside = document.getElementById("pf-body");
    return document.hidden || inside.querySelector("details[open]") || !document.getSelection().isCollapsed ||
      (active && inside.contains(active) && active.matches("input, textarea, select, button"));
  }

  // The element that has the focus gets it back after the exchange: same place in the page, same link.
  function places(body) {
    return Array.from(body.querySelectorAll("a, summary"));
  }

  async function look() {
    if (isBusy()) return;
    try {
      const answer = await fetch(window.location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) return window.location.reload();
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("pf-body");
      const body = document.getElementById("pf-body");
      if (!fresh || isBusy()) return;
      const focus = places(body).indexOf(document.activeElement);
      body.replaceWith(fresh);
      if (focus >= 0 && places(fresh)[focus]) places(fresh)[focus].focus({ preventScroll: true });
      lost.hidden = true;
    } catch (error) {
      lost.hidden = false;
    }
  }

  window.setInterval(look, Number(page.dataset.refresh) * 1000);
})();
