"use strict";
(() => {
  // The first rows are in view; where there are more, a second list of them is folded away.
  const lists = [...document.querySelectorAll(".rows")];
  const form = document.querySelector(".controls");

  // Sorting and filtering. The page is complete without it, so the controls are only shown here.
  if (lists.length && form) {
    const rows = lists.flatMap((list) => [...list.children]);
    const inView = lists[0].children.length;
    const said = rows.map((row) => {
      const copy = row.cloneNode(true);
      copy.querySelectorAll(".tip, h3").forEach((part) => part.remove());
      return copy.textContent.toLowerCase();
    });
    const value = (row, name) => Number(row.dataset[name]);
    const share = (row) => value(row, "flagged") / Math.max(1, value(row, "tokens"));
    const orders = {
      share: (a, b) => share(b) - share(a),
      index: (a, b) => value(a, "index") - value(b, "index"),
      tokens: (a, b) => value(b, "tokens") - value(a, "tokens"),
    };
    const wanted = {
      flagged: (row) => value(row, "flagged") > 0,
      ties: (row) => value(row, "ties") > 0,
      none: (row) => value(row, "flagged") + value(row, "ties") === 0,
    };
    const show = () => {
      const { sort, text, flag } = Object.fromEntries(new FormData(form));
      const part = text.toLowerCase();
      let count = 0;
      rows.forEach((row, number) => {
        row.hidden = !said[number].includes(part) || (flag in wanted && !wanted[flag](row));
        count += row.hidden ? 0 : 1;
      });
      const sorted = sort in orders ? [...rows].sort(orders[sort]) : rows;
      const first = sorted.filter((row) => !row.hidden).slice(0, inView);
      lists[0].append(...first);
      if (lists[1]) lists[1].append(...sorted.filter((row) => !first.includes(row)));
      form.querySelector("output").textContent = `${count} of ${rows.length} rows`;
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    show();
  }

  // One stop of the Tab key a row; the arrow keys go from mark to mark.
  const marks = (row) => [...row.querySelectorAll(".tok[tabindex]")];
  for (const list of lists) {
    for (const row of list.children) marks(row).slice(1).forEach((mark) => { mark.tabIndex = -1; });
    list.addEventListener("keydown", (event) => {
      const mark = event.target.closest(".tok[tabindex]");
      if (!mark) return;
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") mark.classList.add("quiet");
      if (!step) return;
      event.preventDefault();
      const all = marks(mark.closest("li"));
      const next = all[all.indexOf(mark) + step];
      if (!next) return;
      mark.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    // Keep what a mark says inside the window.
    const place = (event) => {
      const mark = event.target.closest(".tok[tabindex]");
      const tip = mark && mark.querySelector(".tip");
      if (!tip) return;
      tip.style.left = "";
      if (getComputedStyle(tip).position === "fixed") return;
      const over = tip.getBoundingClientRect().right - document.documentElement.clientWidth + 12;
      if (over > 0) tip.style.left = `${-over}px`;
    };
    list.addEventListener("focusin", place);
    list.addEventListener("mouseover", place);
    const wake = (event) => { if (event.target.classList) event.target.classList.remove("quiet"); };
    list.addEventListener("focusout", wake);
    list.addEventListener("mouseout", wake);
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      document.querySelectorAll(".tok:hover").forEach((mark) => mark.classList.add("quiet"));
    });
  }

  // Paper has no folds.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.rest)")];
    opened.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((fold) => { fold.open = false; }));
})();
