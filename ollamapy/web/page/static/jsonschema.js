// A check of a JSON Schema before it is sent: mistakes that can be seen without a model. Pure.

import { t } from "./texts.js";

const TYPES = new Set(["string", "number", "integer", "boolean", "null", "array", "object", "any"]);
const MAPS = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
const LISTS = ["anyOf", "oneOf", "allOf", "prefixItems"];
const SINGLE = ["items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedProperties", "unevaluatedItems"];
const DEEPEST = 100; // objects and lists in each other, as in the daemon (schemas.py)

/**
 * The schema that a text is, or what is wrong with it.
 * @param {string} text
 * @returns {{schema?: any, fault?: string}}
 */
export function parseSchema(text) {
  let schema;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    return { fault: t("schemaNoJson", { error: /** @type {Error} */ (error).message }) };
  }
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return { fault: t("schemaNoObject") };
  const fault = faultOf(schema, t("theSchema"), schema, 1);
  return fault ? { fault } : { schema };
}

/**
 * @param {any} schema
 * @param {string} path where it is, for messages
 * @param {any} root
 * @param {number} depth
 * @returns {string} "" if nothing is wrong
 */
function faultOf(schema, path, root, depth) {
  if (typeof schema === "boolean") return "";
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return t("schemaNotOne", { path });
  if (depth > DEEPEST) return t("schemaDeep", { most: String(DEEPEST) });
  return ownFault(schema, path, root) || innerFault(schema, path, root, depth);
}

/** @param {any} schema @param {string} path @param {any} root */
function ownFault({ type, required, enum: choices, pattern, $ref: reference }, path, root) {
  for (const each of Array.isArray(type) ? type : type === undefined ? [] : [type]) if (!TYPES.has(each)) return t("schemaType", { path, type: String(each) });
  if (required !== undefined && !(Array.isArray(required) && required.every((name) => typeof name === "string"))) return t("schemaRequired", { path });
  if (choices !== undefined && !(Array.isArray(choices) && choices.length)) return t("schemaEnum", { path });
  if (pattern !== undefined && !isPattern(pattern)) return t("schemaPattern", { path });
  if (reference !== undefined && !pointed(root, reference)) return t("schemaReference", { path, reference: String(reference) });
  return "";
}

/** @param {any} schema @param {string} path @param {any} root @param {number} depth */
function innerFault(schema, path, root, depth) {
  /** @type {[any, string][]} */
  const inner = [];
  for (const key of MAPS) {
    if (schema[key] === undefined) continue;
    if (typeof schema[key] !== "object" || schema[key] === null || Array.isArray(schema[key])) return t("schemaMap", { path: `${path}/${key}` });
    for (const [name, value] of Object.entries(schema[key])) inner.push([value, `${path}/${key}/${name}`]);
  }
  for (const key of LISTS) {
    if (schema[key] === undefined) continue;
    if (!Array.isArray(schema[key])) return t("schemaList", { path: `${path}/${key}` });
    schema[key].forEach((/** @type {any} */ value, /** @type {number} */ index) => inner.push([value, `${path}/${key}/${index}`]));
  }
  for (const key of SINGLE) if (schema[key] !== undefined && !Array.isArray(schema[key])) inner.push([schema[key], `${path}/${key}`]);
  for (const [value, where] of inner) {
    const fault = faultOf(value, where, root, depth + 1);
    if (fault) return fault;
  }
  return "";
}

/** @param {any} pattern */
function isPattern(pattern) {
  if (typeof pattern !== "string") return false;
  try {
    return Boolean(new RegExp(pattern, "u"));
  } catch {
    return false;
  }
}

/** Whether a reference leads to a part of the schema. @param {any} root @param {any} reference */
function pointed(root, reference) {
  if (typeof reference !== "string" || !reference.startsWith("#")) return false;
  const parts = reference.slice(1).split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  return parts.reduce((at, part) => (at && typeof at === "object" && Object.hasOwn(at, part) ? at[part] : undefined), root) !== undefined;
}
