// Prints what grammar.js says as JSON, as `tree-sitter generate` would write it to src/grammar.json. It needs node alone.

const make = (type) => (content) => ({ type, content: rule(content) });
const rule = (r) =>
  typeof r === "string" ? { type: "STRING", value: r } : r instanceof RegExp ? { type: "PATTERN", value: r.source } : r;
const members = (type) => (...rules) => ({ type, members: rules.map(rule) });

globalThis.seq = members("SEQ");
globalThis.choice = members("CHOICE");
globalThis.repeat = make("REPEAT");
globalThis.repeat1 = make("REPEAT1");
globalThis.optional = (r) => choice(r, { type: "BLANK" });
globalThis.prec = (value, r) => ({ type: "PREC", value, content: rule(r) });
globalThis.field = (name, r) => ({ type: "FIELD", name, content: rule(r) });
globalThis.token = make("TOKEN");
globalThis.token.immediate = make("IMMEDIATE_TOKEN");
globalThis.grammar = (g) => g;

const $ = new Proxy({}, { get: (_, name) => ({ type: "SYMBOL", name }) });
const grammar = require("../grammar.js");
const rules = Object.fromEntries(Object.entries(grammar.rules).map(([name, make]) => [name, rule(make($))]));
console.log(JSON.stringify({ name: grammar.name, word: grammar.word($).name, extras: grammar.extras($).map(rule), rules }));
