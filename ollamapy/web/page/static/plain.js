// Plain text of any length: what is long is cut into pieces, of which a browser lays out only those that are near the screen.

import { h } from "./dom.js";

const PIECE = 16_000; // characters
const MARKS = /(\p{M}{20})\p{M}+/gu;

/** A text as it is. @param {string} text */
export function plain(text) {
  const shown = withFewMarks(text);
  return h("div", { class: "plain", dir: "auto" }, shown.length <= PIECE ? shown : pieces(shown, PIECE).map((piece) => h("div", { class: "piece" }, piece)));
}

/** A text without most of a letter's combining marks: one letter with 100,000 stops a browser for minutes. @param {string} text */
export const withFewMarks = (text) => text.replace(MARKS, "$1");

/** A plain text that grows: what is new is added to its last piece, so that a selection in it stays. */
export class GrowingText {
  element = h("div", { class: "plain", dir: "auto" });
  #text = "";
  /** @type {Text | null} */
  #last = null;

  /** Show a text, which mostly begins with the one before. @param {string} text */
  show(text) {
    if (!text.startsWith(this.#text)) {
      this.element.replaceChildren();
      [this.#text, this.#last] = ["", null];
    }
    for (const piece of pieces(withFewMarks(text.slice(this.#text.length)), PIECE)) this.#add(piece);
    this.#text = text;
  }

  /** @param {string} piece */
  #add(piece) {
    if (this.#last && this.#last.length + piece.length <= PIECE) return this.#last.appendData(piece);
    this.#last = new Text(piece);
    this.element.append(h("div", { class: "piece" }, this.#last));
  }
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
