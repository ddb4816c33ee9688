// What pages do beside htmx: the reader's zone, the slider over a photograph, numbers that change by themselves.
"use strict";
(() => {
  const root = document.documentElement.dataset.root;

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && document.documentElement.dataset.zone !== zone) {
    document.cookie = `semblance_zone=${encodeURIComponent(zone)}; path=${root}; max-age=31536000; samesite=lax`;
  }

  const slide = (slider) => {
    const over = document.querySelectorAll(`[data-layer="${slider.dataset.over}"]`);
    const said = document.getElementById(slider.dataset.said);
    const show = () => {
      over.forEach((each) => { each.style.opacity = slider.value / 100; });
      if (said) said.textContent = `${slider.value} %`;
    };
    slider.addEventListener("input", show);
    show();
  };

  const begin = (within) => {
    within.querySelectorAll("input[data-over]").forEach(slide);
    within.querySelectorAll("[data-submits]").forEach((field) => {
      field.addEventListener("change", () => field.form.requestSubmit());
    });
    within.querySelectorAll("[data-confirm]").forEach((form) => {
      form.addEventListener("submit", (event) => {
        if (!window.confirm(form.dataset.confirm)) event.preventDefault();
      });
    });
  };
  begin(document);

  // What scrolls sideways on a narrow page can be scrolled by keyboard.
  const reach = () => document.querySelectorAll("section").forEach((each) => {
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  });
  reach();
  window.addEventListener("resize", reach);
  window.addEventListener("load", reach);
  document.addEventListener("htmx:after:swap", (event) => begin(event.target || document));

  const numbers = document.querySelectorAll("[data-number]");
  if (numbers.length) {
    const source = new EventSource(`${root}/live`);
    source.addEventListener("numbers", (event) => {
      const now = JSON.parse(event.data);
      numbers.forEach((each) => {
        const value = now[each.dataset.number];
        if (value !== undefined && each.textContent !== value) each.textContent = value;
      });
    });
    window.addEventListener("pagehide", () => source.close());
  }
})();
