// The review page. Its data come from data/scans.js (all scans) and data/page-0001.js ... (slices of
// 50 scans each). Text of the data is only ever put into the page as text.

const ROWS_PER_PAGE = 50;
const STORE = "paravert-ratings:" + location.pathname;
const FIELDS = ["scan", "rater", "time", "verdict", "muscle", "side", "reason", "note", "fingerprint"];
const RATER = /^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/;
const isRater = (name) => RATER.test(name) && !SETTINGS.rules.includes(name.toLowerCase());
const byId = (id) => document.getElementById(id);

let scans = [];
let byName = new Map();
let shown = []; // scans in the order of the table, after the filters
let first = 0; // of the table's rows
let sorting = { column: "lowest", down: false };
let current = null; // name of the scan that is open
let reading = []; // names of the scans of the reading list, in its order
const details = new Map();
const loaded = new Map(); // page number: promise

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const words = (name) => name.replaceAll("_", " ").replaceAll("-", " ");
// In the reading list, scans have numbers in place of names, and all that the automatic checks say is hidden.
const READING = "/reading";
const blind = () => location.hash.startsWith(`#${READING}`);
const lowest = (values) => {
  const known = (values || []).filter((value) => value !== null);
  return known.length ? Math.min(...known) : null;
};
const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

// --- ratings ------------------------------------------------------------------------------------

// The ratings of all raters who used this browser: {rater: who rates now, ratings: {key: rating}}.
let stored = { rater: "A", ratings: {} };
let isKept = true; // by the browser; if not, the ratings are in this tab alone
const NOT_KEPT = "This browser does not keep ratings; export them before you close the page.";

const keyOf = (rating) => [rating.rater, rating.scan, rating.muscle, rating.side].join("|");
const byKey = (ratings) => Object.fromEntries(ratings.map((rating) => [keyOf(rating), rating]));
const ratingsBy = (rater) => Object.values(stored.ratings).filter((rating) => rating.rater === rater);
// A rating of labels that have changed since counts for nothing.
const isOfTheseLabels = ({ scan, fingerprint }) => byName.has(scan) && byName.get(scan).fingerprint === fingerprint;
const placeNow = () => ({ rater: stored.rater, scan: current, muscle: byId("muscle").value, side: byId("sidename").value });
const ratingNow = () => {
  const rating = stored.ratings[keyOf(placeNow())];
  return rating && isOfTheseLabels(rating) ? rating : null;
};
const many = (number) => `${number} rating${number === 1 ? "" : "s"}`;

function load() {
  try {
    const found = isKept && JSON.parse(localStorage.getItem(STORE));
    // Pages of one rater had keys without the rater: the keys are made anew.
    if (found && found.ratings) stored = { rater: found.rater, ratings: byKey(Object.values(found.ratings)) };
  } catch {
    isKept = false;
    tell(NOT_KEPT);
  }
}

function save() {
  try {
    if (isKept) localStorage.setItem(STORE, JSON.stringify(stored));
  } catch {
    isKept = false;
  }
  if (!isKept) tell(NOT_KEPT);
}

// Ratings are changed here alone. Other tabs may have changed them meanwhile, so they are read before.
function change(edit) {
  load();
  edit();
  dropOutdated();
  save();
  redraw();
}

// Where the rater has rated the present labels of a scan, the workflow would still warn of ratings of older ones.
function dropOutdated() {
  const ratings = ratingsBy(stored.rater);
  const rated = new Set(ratings.filter(isOfTheseLabels).map(({ scan }) => scan));
  for (const rating of ratings) if (rated.has(rating.scan) && !isOfTheseLabels(rating)) delete stored.ratings[keyOf(rating)];
}

function renew() {
  load();
  redraw();
}

function redraw() {
  byId("rater").value = stored.rater;
  countVerdicts();
  showProgress();
  if (current) showRatings(); else showTable();
}

const WORST_FIRST = ["fail", "correct", "pass"];
let verdicts = new Map(); // the worst verdict of each scan

function countVerdicts() {
  verdicts = new Map();
  for (const { scan, verdict } of ratingsBy(stored.rater).filter(isOfTheseLabels)) {
    const before = verdicts.get(scan);
    if (!before || WORST_FIRST.indexOf(verdict) < WORST_FIRST.indexOf(before)) verdicts.set(scan, verdict);
  }
}

function rate(verdict) {
  const scan = byName.get(current);
  if (!scan || !scan.fingerprint) return tell("A scan without labels is not rated.");
  const time = new Date().toTimeString().slice(0, 5);
  change(() => {
    stored.ratings[keyOf(placeNow())] = {
      ...placeNow(), time, verdict, reason: byId("reason").value, note: byId("note").value.trim(), fingerprint: scan.fingerprint,
    };
  });
}

function unrate() {
  change(() => delete stored.ratings[keyOf(placeNow())]);
}

function showProgress() {
  const rated = scans.filter((scan) => verdicts.has(scan.scan)).length;
  byId("progress").textContent = `${rated.toLocaleString("en")} of ${scans.length.toLocaleString("en")} scans rated`;
}

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function csvOf(ratings) {
  const rows = [...ratings].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return [FIELDS, ...rows.map((rating) => FIELDS.map((field) => rating[field]))]
    .map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function rowsOf(text) {
  const separator = text.split("\n", 1)[0].includes(";") ? ";" : ","; // spreadsheets write semicolons
  const rows = [];
  let row = [], value = "", quoted = false;
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (quoted) {
      if (letter !== '"') value += letter;
      else if (text[at + 1] === '"') { value += '"'; at++; } else quoted = false;
    } else if (letter === '"') quoted = true;
    else if (letter === separator) { row.push(value); value = ""; }
    else if (letter === "\n") { row.push(value); rows.push(row); row = []; value = ""; }
    else if (letter !== "\r") value += letter;
  }
  if (value || row.length) { row.push(value); rows.push(row); }
  return rows;
}

function exportRatings() {
  renew();
  const ratings = ratingsBy(stored.rater);
  if (!ratings.length) return tell(`There are no ratings of ${stored.rater} to export.`);
  const link = make("a", null, { download: `ratings_${stored.rater}.csv` });
  link.href = URL.createObjectURL(new Blob([csvOf(ratings)], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function importRatings(text) {
  const [header, ...rows] = rowsOf(text.replace(/^\uFEFF/, ""));
  if (!header || FIELDS.some((field) => !header.includes(field)))
    return tell(`The file lacks columns; expected ${FIELDS.join(", ")}.`);
  const ratings = rows.map((row) => Object.fromEntries(FIELDS.map((field) => [field, row[header.indexOf(field)] || ""])));
  const raters = [...new Set(ratings.map((rating) => rating.rater))];
  const [rater] = raters;
  const changed = ratings.find(({ fingerprint }) => !/^[A-Za-z0-9]+$/.test(fingerprint));
  if (raters.length !== 1 || !isRater(rater)) return tell("Expected the ratings of one rater in the file.");
  if (changed)
    return tell(`Nothing imported: fingerprint ${changed.fingerprint || "empty"} of ${changed.scan}. Spreadsheets turn some into numbers; import the file as it was exported.`);
  renew();
  if (rater !== stored.rater && ratingsBy(stored.rater).length)
    return tell(`The file is of rater ${rater}, the ratings shown are of ${stored.rater}: nothing imported. Enter ${rater} as rater, then import.`);
  const known = ratings.filter((rating) => byName.has(rating.scan) && SETTINGS.verdicts.includes(rating.verdict));
  const rated = new Set([...known, ...ratingsBy(rater)].filter(isOfTheseLabels).map(({ scan }) => scan));
  const valid = known.filter((rating) => isOfTheseLabels(rating) || !rated.has(rating.scan));
  // The rating here of the same place; one of older labels gives way.
  const hereOf = (rating) => {
    const here = stored.ratings[keyOf(rating)];
    return here && (isOfTheseLabels(here) || !isOfTheseLabels(rating)) ? here : null;
  };
  const differ = (one, other) => ["verdict", "reason", "note", "fingerprint"].some((field) => one[field] !== other[field]);
  const differing = valid.filter((rating) => hereOf(rating) && differ(hereOf(rating), rating)).length;
  const isReplaced = differing > 0 && confirm(`Ratings that differ from those here: ${differing}. Replace those here? Cancel keeps them.`);
  change(() => {
    stored.rater = rater;
    const counts = { imported: 0, replaced: 0, kept: 0, equal: 0 };
    for (const rating of valid) {
      const here = hereOf(rating);
      const fate = !here ? "imported" : !differ(here, rating) ? "equal" : isReplaced ? "replaced" : "kept";
      counts[fate]++;
      if (fate === "imported" || fate === "replaced") stored.ratings[keyOf(rating)] = rating;
    }
    const parts = [
      [counts.imported, "imported"], [counts.replaced, "replaced"], [counts.kept, "kept as here"], [counts.equal, "equal to those here"],
      [known.length - valid.length, "left out: the labels have changed since"],
      [ratings.length - known.length, "left out: scan or verdict unknown"],
    ];
    tell(`Rater ${rater}: ${parts.filter(([number]) => number).map((part) => part.join(" ")).join("; ")}.`);
  });
}

function tell(text) {
  byId("told").textContent = text;
}

// --- the table of scans -------------------------------------------------------------------------

const ORDER = { text: (a, b) => a.localeCompare(b, "en", { numeric: true }), number: (a, b) => a - b };
const titleOf = (scan) => (blind() ? `Reading ${reading.indexOf(scan.scan) + 1}` : scan.scan);
const OUTLIER = SETTINGS.flags.findIndex(([code]) => code === "fat-outlier");
const outlierOf = (scan) => scan.flags[OUTLIER];
// The name of the vertebra or disc nearest to a level; scan.levels: of the most cranial and caudal slice.
const levelName = (level) => SETTINGS.levels.reduce((best, one) => (Math.abs(one[0] - level) < Math.abs(best[0] - level) ? one : best))[1];
const NEAR_LEVEL = 0.15; // levels, 5 mm

const COLUMNS = [
  { id: "scan", title: "Scan", kind: "text", value: (scan) => scan.scan, text: (scan) => titleOf(scan) },
  { id: "status", title: "Status", kind: "text", value: (scan) => scan.status + (scan.reason ? `: ${scan.reason}` : "") },
  { id: "lowest", title: "Lowest predicted IoU", kind: "number", digits: 2, low: true, value: (scan) => lowest(scan.lowest) },
  { id: "where", title: "Where", kind: "text", value: (scan) => scan.where || "" },
  ...SETTINGS.muscles.map((muscle, number) => ({
    id: muscle, title: words(muscle), kind: "number", digits: 2, low: true,
    value: (scan) => (scan.lowest ? scan.lowest[number] : null),
  })),
  { id: "warnings", title: "Warnings", kind: "number", value: (scan) => scan.warnings.length, text: (scan) => scan.warnings.join(", ") },
  { id: "levels", title: "Levels", kind: "text", value: (scan) => (scan.levels ? scan.levels.map(levelName).join(" to ") : "") },
  { id: "sex", title: "Sex", kind: "text", value: (scan) => scan.sex || "" },
  { id: "age", title: "Age", kind: "number", digits: 0, value: (scan) => scan.age ?? null },
  { id: "site", title: "Site", kind: "text", value: (scan) => scan.site || "" },
  { id: "fat", title: "Fat fraction", kind: "number", digits: 3, value: (scan) => scan.fat ?? null },
  { id: "outlier", title: "Outlier, SD", kind: "number", digits: 1, value: outlierOf },
  { id: "verdict", title: "Rating", kind: "text", value: (scan) => verdicts.get(scan.scan) || "" },
];

function makeFilters() {
  const add = (title, element, id) => {
    element.id = id;
    element.addEventListener(element.tagName === "SELECT" ? "change" : "input", () => { first = 0; showTable(); });
    const label = make("label", title);
    label.append(element);
    byId("filters").append(label);
  };
  const choice = (title, id, values, none) => {
    const select = make("select");
    select.append(make("option", none, { value: "" }));
    for (const value of values) select.append(make("option", words(value), { value }));
    add(title, select, id);
  };
  const among = (value) => [...new Set(scans.flatMap(value))].filter(Boolean).sort(ORDER.text);
  add("Scan contains", make("input", null, { type: "search", size: 12 }), "find-scan");
  choice("Predicted IoU of", "find-muscle", SETTINGS.muscles, "all muscles");
  add("is below", make("input", null, { type: "number", min: 0, max: 1, step: 0.05 }), "find-iou");
  choice("Status", "find-status", among((scan) => scan.status), "any");
  choice("Warning", "find-warning", among((scan) => scan.warnings), "any or none");
  choice("Covers level", "find-level", SETTINGS.levels.map(([, name]) => name), "any or none");
  choice("Sex", "find-sex", among((scan) => scan.sex), "any");
  choice("Site", "find-site", among((scan) => scan.site), "any");
  add("Age from", make("input", null, { type: "number", min: 0 }), "find-youngest");
  add("to", make("input", null, { type: "number", min: 0 }), "find-oldest");
  add("Outlier beyond, SD", make("input", null, { type: "number", min: 0, step: 0.5 }), "find-outlier");
  choice("Rating", "find-verdict", ["unrated", ...SETTINGS.verdicts], "any");
}

function matches() {
  const asked = (id) => byId(id).value;
  const number = (id) => (asked(id) === "" ? null : Number(asked(id)));
  const text = asked("find-scan").toLowerCase();
  const muscle = SETTINGS.muscles.indexOf(asked("find-muscle"));
  const [below, youngest, oldest, outlier] = ["find-iou", "find-youngest", "find-oldest", "find-outlier"].map(number);
  const iou = (scan) => (muscle < 0 ? lowest(scan.lowest) : (scan.lowest || [])[muscle] ?? null);
  const tests = [];
  if (text) tests.push((scan) => scan.scan.toLowerCase().includes(text));
  if (below !== null) tests.push((scan) => iou(scan) !== null && iou(scan) < below);
  if (youngest !== null) tests.push((scan) => scan.age !== undefined && scan.age >= youngest);
  if (oldest !== null) tests.push((scan) => scan.age !== undefined && scan.age <= oldest);
  if (outlier !== null) tests.push((scan) => Math.abs(outlierOf(scan) ?? 0) > outlier);
  for (const name of ["status", "sex", "site"]) {
    const value = asked(`find-${name}`);
    if (value) tests.push((scan) => scan[name] === value);
  }
  const warning = asked("find-warning"), verdict = asked("find-verdict");
  const level = SETTINGS.levels.find(([, name]) => name === asked("find-level"));
  if (level) tests.push((scan) => scan.levels && scan.levels[0] <= level[0] + NEAR_LEVEL && scan.levels[1] >= level[0] - NEAR_LEVEL);
  if (warning) tests.push((scan) => scan.warnings.includes(warning));
  if (verdict) tests.push((scan) => (verdicts.get(scan.scan) || "unrated") === verdict);
  return scans.filter((scan) => tests.every((test) => test(scan)));
}

let showsReading = false;

function listed() {
  showsReading = blind();
  return showsReading ? reading.map((name) => byName.get(name)) : sorted(matches());
}

function sorted(found) {
  const column = COLUMNS.find((one) => one.id === sorting.column);
  const unknown = (value) => value === null || value === "";
  const keyed = found.map((scan) => [column.value(scan), scan]);
  keyed.sort(([a], [b]) => {
    if (unknown(a) || unknown(b)) return unknown(a) - unknown(b); // unknown last, up or down
    return ORDER[column.kind](a, b) * (sorting.down ? -1 : 1);
  });
  return keyed.map(([, scan]) => scan);
}

const classOf = ({ id, kind, text }) => [kind === "text" || text ? "text" : "", ["scan", "verdict"].includes(id) ? "" : "judged"].join(" ").trim();

function makeHead() {
  const row = byId("scans").tHead.rows[0];
  for (const column of COLUMNS) {
    const head = make("th", null, { scope: "col", class: classOf(column), "data-column": column.id });
    const button = make("button", column.title, { type: "button" });
    button.addEventListener("click", () => {
      sorting = { column: column.id, down: sorting.column === column.id && !sorting.down };
      first = 0;
      showTable();
    });
    head.append(button);
    row.append(head);
  }
}

function showTable() {
  shown = listed();
  first = Math.min(first, Math.max(0, shown.length - 1));
  first -= first % ROWS_PER_PAGE;
  byId("reading").textContent = blind() ? "All scans" : `Reading list (${reading.length})`;
  for (const head of byId("scans").tHead.rows[0].cells) {
    const own = head.dataset.column === sorting.column && !blind();
    head.firstChild.disabled = blind();
    head.setAttribute("aria-sort", own ? (sorting.down ? "descending" : "ascending") : "none");
  }
  const rows = shown.slice(first, first + ROWS_PER_PAGE).map((scan) => {
    const row = make("tr");
    for (const column of COLUMNS) {
      const value = column.value(scan);
      const text = column.text ? column.text(scan) : column.kind === "number" && column.digits !== undefined ? fixed(value, column.digits) : String(value);
      const box = make("td", null, { class: classOf(column) });
      if (column.id === "scan") {
        const button = make("button", text, { type: "button" });
        button.addEventListener("click", () => open(scan.scan));
        box.append(button);
      } else box.textContent = column.id === "where" || column.id === "verdict" ? text : words(text);
      if (column.low && value !== null && value < SETTINGS.doubtful) box.classList.add("low");
      if (column.id === "verdict" && value) box.classList.add(`verdict-${value}`);
      row.append(box);
    }
    return row;
  });
  byId("scans").tBodies[0].replaceChildren(...rows);
  const last = Math.min(first + ROWS_PER_PAGE, shown.length);
  byId("place").textContent = shown.length ? `${first + 1} to ${last} of ${shown.length}` : "no scan";
  byId("earlier").disabled = first === 0;
  byId("later").disabled = last >= shown.length;
}

// --- one scan -----------------------------------------------------------------------------------

function loadPage(number) {
  if (!loaded.has(number)) {
    loaded.set(number, new Promise((resolve, reject) => {
      const script = make("script", null, { src: `data/page-${String(number).padStart(4, "0")}.js` });
      script.onload = resolve;
      script.onerror = () => reject(new Error(`no data/page-${number}`));
      document.head.append(script);
    }));
  }
  return loaded.get(number);
}

// Opens a scan by name, or the table with "". The reading list stays open until its button closes it.
function open(name) {
  const place = reading.indexOf(name) + 1;
  location.hash = blind() ? (place ? `${READING}/${place}` : READING) : encodeURIComponent(name);
}

async function show() {
  const hash = decodeURIComponent(location.hash.slice(1));
  const name = blind() ? reading[Number(hash.slice(READING.length + 1)) - 1] : hash;
  const scan = byName.get(name);
  document.body.classList.toggle("blind", blind());
  current = scan ? name : null;
  byId("list").hidden = Boolean(scan);
  byId("one").hidden = !scan;
  if (!scan) return showTable();
  tell("");
  scrollTo(0, 0);
  if (blind() !== showsReading) shown = listed();
  const at = shown.indexOf(scan);
  byId("name").textContent = titleOf(scan);
  byId("position").textContent = at < 0 ? "" : `${at + 1} of ${shown.length} in the order of the ${blind() ? "reading list" : "table"}`;
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at + 1 >= shown.length;
  byId("manual").disabled = !scan.manual;
  [byId("muscle").value, byId("sidename").value] = ["", ""];
  byId("slices").replaceChildren();
  showSagittal(scan, null);
  showRatings();
  showFacts(scan);
  if (scan.page) {
    try {
      await loadPage(scan.page);
    } catch (error) {
      return tell(`Not found: ${error.message}`);
    }
  }
  if (current !== name) return; // another scan was opened meanwhile
  const detail = details.get(name);
  showValues(detail);
  showSagittal(scan, detail);
  if (detail) showSlices(scan, detail);
  else if (scan.pictures) showPicturesAlone(scan);
  else byId("slices").replaceChildren(make("p", "Not analysed: no slices."));
}

function go(step) {
  if (!current) return shown.length && open(shown[first].scan);
  const next = shown[shown.findIndex((scan) => scan.scan === current) + step];
  if (next) open(next.scan);
}

function goToUnrated() {
  const at = shown.findIndex((scan) => scan.scan === current);
  const next = [...shown.slice(at + 1), ...shown.slice(0, at + 1)].find((scan) => scan.fingerprint && !verdicts.has(scan.scan));
  if (next) open(next.scan);
  else tell(`All scans of the ${blind() ? "reading list" : "table"} are rated.`);
}

function picture(scan, number, count, contours, note) {
  const [, , usual, most] = SETTINGS.picture;
  const columns = Math.min(Math.max(usual, Math.ceil(count / most)), count);
  const rows = Math.ceil(count / columns);
  const [column, row] = [number % columns, Math.floor(number / columns)];
  const place = (steps, all) => (all > 1 ? `${(100 * steps) / (all - 1)}%` : "0");
  const layer = (file, name) => {
    const element = make("div", null, { class: name });
    element.dataset.source = `../subjects/${encodeURIComponent(scan.scan)}/${file}`;
    element.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    element.style.backgroundPosition = `${place(column, columns)} ${place(row, rows)}`;
    return element;
  };
  const box = make("div", null, { class: "picture", role: "img", "aria-label": `slice ${number}, ${note}` });
  box.append(layer(SETTINGS.files[0], "grey"), layer(contours, "contour"), make("span", "R"), make("span", "L"), make("b", note));
  return box;
}

const lazily = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    lazily.unobserve(target);
    for (const layer of target.querySelectorAll("[data-source]")) layer.style.backgroundImage = `url("${layer.dataset.source}")`;
  }
}, { rootMargin: "400px" });

function captionOf(stack, slice, position, level) {
  if (stack === null) return `picture ${slice + 1}`;
  return `stack ${stack}, slice ${slice}, ${position.toFixed(1)} mm${level ? `, ${level}` : ""}`;
}

const svg = (tag, attributes, text) => {
  const element = document.createElementNS(byId("sagittal").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
};
const LEVEL_WIDTH = 76, LEVEL_GAP = 18; // pixels of the sagittal picture

// The sagittal picture: a line for each slice, and in front of the lines of each level its name.
function showSagittal(scan, detail) {
  const box = byId("sagittal");
  box.toggleAttribute("hidden", !detail || !detail.sagittal);
  if (!detail || !detail.sagittal) return box.replaceChildren();
  const [width, height] = detail.sagittal;
  box.setAttribute("viewBox", `${-LEVEL_WIDTH} 0 ${width + LEVEL_WIDTH} ${height}`);
  box.replaceChildren(svg("image", { href: `../subjects/${encodeURIComponent(scan.scan)}/${SETTINGS.files[3]}`, width, height, class: "grey" }));
  const byLevel = new Map();
  detail.lines.forEach((line, number) => {
    if (!line) return;
    const [x1, y1, x2, y2] = line;
    box.append(svg("line", { x1, y1, x2, y2, "data-slice": number }));
    const name = detail.slices[number][3];
    if (name) byLevel.set(name, [...(byLevel.get(name) || []), y1]);
  });
  const middles = [...byLevel].map(([name, heights]) => [name, heights.reduce((sum, y) => sum + y, 0) / heights.length]);
  let last = -Infinity;
  for (const [name, y] of middles.sort(([, a], [, b]) => a - b)) {
    last = Math.max(y, last + LEVEL_GAP);
    box.append(svg("text", { x: -6, y: last + 6 }, name));
  }
}

function mark(number, isOn) {
  const line = byId("sagittal").querySelector(`[data-slice="${number}"]`);
  if (line) line.classList.toggle("on", isOn);
}

function showSlices(scan, detail) {
  const count = detail.slices.length;
  const figures = detail.slices.map(([stack, slice, position, level], number) => {
    const figure = make("figure");
    const pair = make("div", null, { class: "pair" });
    if (scan.pictures) {
      pair.append(picture(scan, number, count, SETTINGS.files[1], "labels"));
      if (scan.manual) {
        const manual = picture(scan, number, count, SETTINGS.files[2], "manual");
        manual.classList.add("manual");
        pair.append(manual);
      }
    }
    figure.append(pair, make("figcaption", captionOf(stack, slice, position, level)), iouTable(detail.iou[number]));
    lazily.observe(figure);
    figure.addEventListener("mouseenter", () => mark(number, true));
    figure.addEventListener("mouseleave", () => mark(number, false));
    return figure;
  });
  byId("slices").replaceChildren(...figures);
  if (!scan.pictures) tell("The pictures of this scan are not there.");
}

// A scan that is not analysed has no values; how many slices it has follows from the size of its picture.
function showPicturesAlone(scan) {
  const image = new Image();
  image.onload = () => {
    if (current !== scan.scan) return;
    const [width, height] = SETTINGS.picture;
    const count = Math.round((image.naturalWidth / width) * (image.naturalHeight / height));
    showSlices(scan, {
      slices: Array.from({ length: count }, (_, number) => [null, number, null]),
      iou: Array(count).fill(Array(SETTINGS.labels.length).fill(null)),
    });
  };
  image.onerror = () => tell("The pictures of this scan are not there.");
  image.src = `../subjects/${encodeURIComponent(scan.scan)}/${SETTINGS.files[0]}`;
}

function swatch(colour) {
  const element = make("span", null, { class: "swatch" });
  element.style.background = colour;
  return element;
}

function iouTable(values) {
  const table = make("table", null, { "aria-label": "predicted IoU", class: "judged" });
  const head = table.insertRow();
  head.append(make("th", "IoU"), ...SETTINGS.muscles.map((muscle) => make("th", muscle.slice(0, 5), { scope: "col", title: words(muscle) })));
  for (const side of ["left", "right"]) {
    const row = table.insertRow();
    row.append(make("th", side, { scope: "row", class: "text" }));
    SETTINGS.labels.forEach(([, own, colour], number) => {
      if (own !== side) return;
      const value = values[number];
      const box = make("td", null, value !== null && value < SETTINGS.doubtful ? { class: "low" } : {});
      box.append(swatch(colour), fixed(value, 2));
      row.append(box);
    });
  }
  return table;
}

function showFacts(scan) {
  const facts = [
    ["Status", scan.status + (scan.reason ? `: ${scan.reason}` : "")],
    ["Message", scan.message],
    ["Warnings", scan.warnings.join(", ")],
    ["Sex, age", [scan.sex, scan.age].filter((value) => value !== undefined).join(", ")],
    ["Site", scan.site],
    ["Group", scan.group],
    ["Lowest predicted IoU", lowest(scan.lowest) === null ? "" : `${fixed(lowest(scan.lowest), 2)} (${scan.where})`],
    ["Fat fraction", scan.fat === undefined ? "" : fixed(scan.fat, 3)],
    ...SETTINGS.flags.map(([code, title], number) => [words(code), scan.flags[number] === null ? "" : `${fixed(scan.flags[number], 2)}: ${title}`]),
    ["Labels", scan.fingerprint],
  ];
  const rows = facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", name), make("dd", value)]);
  byId("facts").replaceChildren(...rows);
}

function showValues(detail) {
  const rows = (detail ? detail.measures : []).map((values, number) => {
    const [muscle, side, colour] = SETTINGS.labels[number];
    const row = make("tr");
    const head = make("th", null, { scope: "row", class: "text" });
    head.append(swatch(colour), `${muscle.split("_")[0]} ${side}`);
    row.append(head);
    values.forEach(([value, percentile]) => {
      row.append(make("td", value === null ? "–" : String(value)), make("td", percentile === null ? "–" : `P${percentile}`, { class: "quiet" }));
    });
    return row;
  });
  byId("values").tBodies[0].replaceChildren(...rows);
}

let filledIn = ""; // scan and rating whose reason and note the form shows

// The form is filled in only where another rating is to be shown: what is typed before a rating stays.
function fillIn(own) {
  const next = JSON.stringify([current, own]);
  if (next === filledIn) return;
  filledIn = next;
  byId("reason").value = own ? own.reason : "";
  byId("note").value = own ? own.note : "";
}

function showRatings() {
  const own = ratingNow();
  fillIn(own);
  for (const button of byId("rate").children) button.setAttribute("aria-pressed", String(Boolean(own) && own.verdict === button.dataset.verdict));
  const items = ratingsBy(stored.rater).filter(({ scan }) => scan === current).map((rating) => {
    const place = rating.muscle ? words(`${rating.muscle} ${rating.side}`).trim() : "whole scan";
    const item = make("li", null, { class: `verdict-${rating.verdict}` });
    const changed = isOfTheseLabels(rating) ? "" : " – the labels have changed since";
    item.textContent = [`${place}: ${rating.verdict}`, words(rating.reason), rating.note].filter(Boolean).join(", ") + changed;
    return item;
  });
  byId("rated").replaceChildren(...items);
}

// --- the start ----------------------------------------------------------------------------------

function makeForm() {
  for (const [number, verdict] of SETTINGS.verdicts.entries()) {
    const button = make("button", `${number + 1} ${verdict}`, { type: "button", "data-verdict": verdict, "aria-pressed": "false" });
    button.addEventListener("click", () => rate(verdict));
    byId("rate").append(button);
  }
  const fill = (id, none, values) => {
    byId(id).append(make("option", none, { value: "" }), ...values.map((value) => make("option", words(value), { value })));
  };
  fill("muscle", "whole scan", SETTINGS.muscles);
  fill("sidename", "both sides", ["left", "right"]);
  fill("reason", "none", SETTINGS.reasons);
  for (const id of ["muscle", "sidename"]) {
    byId(id).addEventListener("change", () => {
      if (!byId("muscle").value) byId("sidename").value = "";
      showRatings();
    });
  }
  const amend = () => {
    const own = ratingNow();
    if (own) rate(own.verdict);
  };
  for (const id of ["reason", "note"]) byId(id).addEventListener("change", amend);
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  const head = byId("values").tHead.insertRow();
  head.append(make("th", "", { class: "text" }), ...SETTINGS.measures.map((name) => make("th", name, { scope: "col", colspan: 2 })));
}

function toggle(id, name) {
  const off = byId("slices").classList.toggle(name);
  byId(id).setAttribute("aria-pressed", String(!off));
}

function style() {
  const [width, height] = SETTINGS.picture;
  document.body.style.setProperty("--shape", `${width} / ${height}`);
  document.body.style.setProperty("--zoom", byId("zoom").value);
  const rule = `.grey { filter: brightness(${byId("brightness").value}%) contrast(${byId("contrast").value}%); }`;
  byId("filter").textContent = rule;
}

const KEYS = {
  j: () => go(1), ArrowRight: () => go(1), k: () => current && go(-1), ArrowLeft: () => current && go(-1),
  n: goToUnrated, u: () => open(""), Escape: () => open(""), c: () => toggle("contours", "plain"), m: () => toggle("manual", "no-manual"),
  0: () => current && unrate(), 1: () => current && rate("pass"), 2: () => current && rate("correct"), 3: () => current && rate("fail"),
};

// A text field has all keys. A list or slider has the arrows and the like, but no letters and digits:
// in a list they would choose an entry.
function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const field = event.target.closest("input, select, textarea");
  if (field && event.key === "Escape") return field.blur();
  if (field && (event.key.length > 1 || event.key === " " || !field.matches("select, [type=range]"))) return;
  if (field) event.preventDefault();
  if (Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    KEYS[event.key]();
  }
}

function changeRater() {
  const name = byId("rater").value.trim();
  if (!isRater(name)) {
    byId("rater").value = stored.rater;
    const rules = SETTINGS.rules.join(" and ");
    return tell(`A rater is up to 32 letters, digits, _ or -: a code, not a name. ${rules} are rules (review.rule), not raters.`);
  }
  if (name === stored.rater) return redraw();
  change(() => {
    const before = stored.rater;
    stored.rater = name;
    tell(`Rater ${name}: ${many(ratingsBy(name).length)}. Rater ${before} keeps ${many(ratingsBy(before).length)}.`);
  });
}

function start(found, toRead) {
  [scans, reading] = [found, toRead];
  byName = new Map(scans.map((scan) => [scan.scan, scan]));
  document.head.append(make("style", "", { id: "filter" }));
  makeFilters();
  makeHead();
  makeForm();
  style();
  byId("reading").hidden = !reading.length;
  renew();
  show();
  addEventListener("storage", ({ key }) => key === STORE && renew()); // another tab changed the ratings
}

const paravert = {
  scans: start,
  page: (number, found) => Object.entries(found).forEach(([name, detail]) => details.set(name, detail)),
};

byId("earlier").addEventListener("click", () => { first = Math.max(0, first - ROWS_PER_PAGE); showTable(); });
byId("later").addEventListener("click", () => { first += ROWS_PER_PAGE; showTable(); });
byId("reading").addEventListener("click", () => { first = 0; location.hash = blind() ? "" : READING; });
byId("unrated").addEventListener("click", goToUnrated);
byId("back").addEventListener("click", () => open(""));
byId("previous").addEventListener("click", () => go(-1));
byId("next").addEventListener("click", () => go(1));
byId("contours").addEventListener("click", () => toggle("contours", "plain"));
byId("manual").addEventListener("click", () => toggle("manual", "no-manual"));
for (const id of ["zoom", "brightness", "contrast"]) byId(id).addEventListener("input", style);
byId("rater").addEventListener("change", changeRater);
byId("export").addEventListener("click", exportRatings);
byId("import").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", async () => {
  const [file] = byId("file").files;
  if (file) importRatings(await file.text());
  byId("file").value = "";
});
document.addEventListener("keydown", press);
addEventListener("hashchange", show);
