// Plain text of any length: what is long is cut into pieces, of which a browser lays out only those that are near the screen.

import { h } from "./dom.js";

const PIECE = 16_000; // characters
const MARKS = /(\p{M}{20})\p{M}+/gu;

/** A text as it is. @param {string} text */
export function plain(text) {
  const shown = text.replace(MARKS, "$1"); // one letter with 100,000 marks stops a browser for minutes
  return h("div", { class: "plain", dir: "auto" }, shown.length <= PIECE ? shown : pieces(shown, PIECE).map((piece) => h("div", { class: "piece" }, piece)));
}

/** A text in pieces, cut at the ends of lines (which are left out: each piece is a block) where there are any. Pure.
 * @param {string} text @param {number} most characters of a piece @returns {string[]} */
export function pieces(text, most) {
  const found = [];
  let start = 0;
  while (text.length - start > most) {
    const line = text.lastIndexOf("\n", start + most);
    const isPair = /[\uD800-\uDBFF]/.test(text[start + most - 1]); // not between the halves of a character
    const end = line > start ? line : start + most - (isPair ? 1 : 0);
    found.push(text.slice(start, end));
    start = line > start ? end + 1 : end;
  }
  return [...found, text.slice(start)];
}
