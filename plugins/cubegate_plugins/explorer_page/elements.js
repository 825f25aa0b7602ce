// Elements of the page: found, made and filled. Text from data is only ever set as text.

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

/** Make an element; `children` are elements or text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** Put options into a select; each is a text, or [value, label]. */
export function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map((each) => {
    const [value, label] = Array.isArray(each) ? each : [each, each];
    return make("option", { value }, label);
  }));
  select.value = options.some((each) => (Array.isArray(each) ? each[0] : each) === chosen) ? chosen : select.options[0]?.value ?? "";
  return select.value;
}

/** Tell those who listen instead of looking. */
export function announce(text) {
  $("announcement").textContent = text;
}

let working = 0;

/** Say that something more is under way (1), or less (-1). */
export function underWay(change) {
  working += change;
  $("busy").hidden = working <= 0;
}

/** Show an error in words, or none; one that may be over in a moment can be tried again, since the address holds all. */
export function showProblem(error) {
  const place = $("problem");
  place.hidden = !error;
  const again = error?.temporary ? [" ", make("button", { type: "button", onclick: () => window.location.reload() }, "Try again")] : [];
  place.replaceChildren(error ? error.message ?? String(error) : "", ...again);
}

/** Copy text; says whether it could be. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied.");
  } catch {
    announce("This browser does not let pages copy. Select the text and copy it.");
  }
}
