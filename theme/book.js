// The pages without this script are whole; it adds search, previews, copying, larger figures, the scheme and the phone's menu.
const $ = (selector, within = document) => within.querySelector(selector);

$("#theme").onclick = () => {
  const scheme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = scheme;
  localStorage.setItem("theme", scheme);
  dispatchEvent(new Event("theme"));
};

$("#menu").onclick = () => {
  const open = $("#toc").classList.toggle("open");
  $("#menu").setAttribute("aria-expanded", open);
};
// Not scrollIntoView, from which the keyboard would start then, and not from the top of the page.
const bottomOf = (selector) => $(selector)?.getBoundingClientRect().bottom ?? 0;
$("#toc").scrollTop += Math.max(0, bottomOf("#toc [aria-current]") - bottomOf("#toc"));

for (const block of document.querySelectorAll(".code")) {
  const button = Object.assign(document.createElement("button"), { className: "copy", textContent: "Copy" });
  button.onclick = async () => {
    await navigator.clipboard.writeText($("code", block).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  };
  block.append(button);
}

const large = $("#large");
for (const picture of document.querySelectorAll("article img")) {
  if (picture.closest(".moving")) continue;
  const link = Object.assign(document.createElement("a"), { href: picture.src, className: "larger" });
  picture.replaceWith(link);
  link.append(picture);
  link.onclick = (event) => {
    if (event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    $("div", large).replaceChildren(picture.cloneNode());
    large.showModal();
  };
}
large.onclick = (event) => event.target === large && large.close();

// A script and not a fetch: it loads from a disk, too.
const load = (name, file) =>
  window[name] ? Promise.resolve(window[name]) : new Promise((done, fail) =>
    document.head.append(Object.assign(document.createElement("script"), { src: file, onload: () => done(window[name]), onerror: fail })));

const dialog = $("#search"), box = $("#search input"), hits = $("#search ol");
const openSearch = () => { dialog.showModal(); box.select(); load("SEARCH", "search.js").then(search); };
$("#find").onclick = openSearch;
addEventListener("keydown", (event) => {
  const typing = /input|textarea|select/i.test(event.target.tagName);
  if ((event.key === "/" && !typing) || (event.key === "k" && (event.metaKey || event.ctrlKey))) { event.preventDefault(); openSearch(); }
  if (event.key === "Escape") preview.hidden = true;
});

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const score = (record) => words.reduce((sum, word) => {
    const title = record.title.toLowerCase(), text = record.text.toLowerCase();
    if (!title.includes(word) && !text.includes(word)) return -Infinity;
    return sum + (title.includes(word) ? 10 : 0) + Math.min(text.split(word).length - 1, 5);
  }, 0);
  const found = !words.length ? [] : (window.SEARCH ?? []).map((record) => [score(record), record]).filter(([s]) => s > 0).sort((a, b) => b[0] - a[0]).slice(0, 20);
  hits.replaceChildren(...found.map(([, record]) => {
    const item = document.createElement("li"), link = document.createElement("a"), around = document.createElement("small");
    const at = Math.max(0, record.text.toLowerCase().indexOf(words[0]) - 50);
    link.href = record.url;
    link.textContent = record.title;
    around.textContent = (at ? "…" : "") + record.text.slice(at, at + 170);
    link.append(around);
    item.append(link);
    return item;
  }));
  if (words.length && !found.length) hits.textContent = "Nothing found.";
}
box.oninput = search;
hits.onclick = () => dialog.close();
$("#search form").onsubmit = (event) => { event.preventDefault(); $("a", hits)?.click(); };
$("#close").onclick = () => dialog.close();

const preview = $("#preview");
let waiting;
function show(link) {
  load("PREVIEWS", "previews.js").then((previews) => {
    const key = link.dataset.preview, own = key.startsWith("#") && document.getElementById(key.slice(1));
    const inside = own ? own.innerHTML : previews[key];
    if (!inside) return;
    preview.innerHTML = inside;
    preview.hidden = false;
    const place = link.getBoundingClientRect(), size = preview.getBoundingClientRect();
    const below = place.bottom + size.height + 12 < innerHeight || place.top < size.height;
    preview.style.left = `${Math.max(8, Math.min(place.left, innerWidth - size.width - 24)) + scrollX}px`;
    preview.style.top = `${(below ? place.bottom + 6 : place.top - size.height - 6) + scrollY}px`;
    link.setAttribute("aria-describedby", "preview");
  });
}
for (const link of document.querySelectorAll("[data-preview]")) {
  const start = () => { clearTimeout(waiting); waiting = setTimeout(show, 250, link); };
  const stop = () => { clearTimeout(waiting); waiting = setTimeout(() => (preview.hidden = true), 250); };
  link.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && start());
  link.addEventListener("pointerleave", stop);
  link.addEventListener("focus", start);
  link.addEventListener("blur", stop);
}
preview.onpointerenter = () => clearTimeout(waiting);
preview.onpointerleave = () => (preview.hidden = true);
