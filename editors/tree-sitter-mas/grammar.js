/// <reference types="tree-sitter-cli/dsl" />
// The grammar of masc, version 1, for tree-sitter. It follows dsl/grammar.lark rule by rule; strings are taken apart
// here, so that placeholders and escapes have nodes of their own.

const commaSep = (rule) => optional(seq(rule, repeat(seq(",", rule)), optional(",")));
const text = (pattern) => token.immediate(prec(1, pattern));

module.exports = grammar({
  name: "mas",

  word: ($) => $.name,

  extras: ($) => [/[\s\uFEFF]+/, $.comment],

  rules: {
    file: ($) => seq($.version, repeat($._declaration)),

    version: ($) => seq("mas", $.number),

    _declaration: ($) => choice($.import, $.model, $.param, $.agent, $.graph, $.train),

    import: ($) => seq("import", field("path", $.string), $.names),

    model: ($) => seq("model", field("name", $.name), "=", field("target", $.string), optional($.options)),

    param: ($) =>
      seq("param", field("name", $.name), ":", field("type", $.name), "=", field("default", $._value)),

    agent: ($) =>
      seq(
        "agent",
        field("name", $.name),
        optional($.fields),
        "on",
        field("model", $.name),
        "{",
        repeat($._member),
        "}",
      ),

    fields: ($) => seq("(", commaSep($.field), ")"),

    field: ($) => seq(field("name", $.name), ":", field("type", $.name)),

    _member: ($) => choice($.say, $.think, $.adapt, $.answer, $.variables),

    say: ($) => seq(field("role", choice("system", "user")), $.prompt),

    think: ($) => seq("think", field("steps", $._value), optional($.options)),

    adapt: ($) =>
      choice(
        seq("adapt", field("kind", $.name), optional($.options), optional(seq("from", field("start", $.string)))),
        seq("adapt", "as", field("agent", $.name)),
      ),

    answer: ($) => seq("answer", optional($.options)),

    variables: ($) => seq("template", $.table),

    graph: ($) =>
      seq("graph", field("name", $.name), $.names, "->", $.outputs, "{", repeat($._statement), "}"),

    outputs: ($) => seq($.name, repeat(seq(",", $.name))),

    _statement: ($) => choice($.edge, $.instance, $.lone, $.repeat),

    edge: ($) => seq($._stage, repeat1(seq("->", $._stage)), optional(seq(":", $.channel))),

    _stage: ($) => choice($.name, $.group),

    group: ($) => seq("[", commaSep($.name), "]"),

    channel: ($) => seq(field("kind", $.name), optional($.options)),

    instance: ($) =>
      seq(field("name", $.name), "=", field("template", $.name), "(", commaSep($._value), ")"),

    lone: ($) => $.name,

    repeat: ($) => seq("repeat", field("count", $._value), "{", repeat($._statement), "}"),

    train: ($) => seq("train", "{", repeat($._entry), "}"),

    _entry: ($) => choice($.supervise, $.setting),

    supervise: ($) => seq(field("output", $.name), "<-", field("column", choice($.name, $.string))),

    setting: ($) => seq(field("name", $.name), field("value", choice($._value, $.call))),

    call: ($) => seq(field("kind", $.name), $.options),

    options: ($) => seq("(", commaSep($.option), ")"),

    option: ($) =>
      seq(
        field("name", $.name),
        "=",
        field("value", choice($._value, $.table)),
        optional(seq("as", field("qualifier", $.name))),
      ),

    table: ($) => seq("(", $.pair, repeat(seq(",", $.pair)), optional(","), ")"),

    pair: ($) => seq(field("name", $.name), "=", field("value", $._value)),

    _value: ($) => choice($.name, $.number, $.string, $.true, $.false, $.range, $.list),

    true: () => "true",

    false: () => "false",

    range: ($) => seq($.number, "..", $.number),

    list: ($) => seq("[", commaSep($._value), "]"),

    names: ($) => seq("(", commaSep($.name), ")"),

    // Texts. A long one ends at the first three quotes; the longest token wins, so fewer are text. Both kinds are made of
    // the same tokens, so that the lexer need not know in which of them it is.

    string: ($) =>
      choice(
        seq('"""', repeat(choice($.escape, $._words, $._braces, $._newline, $._quotes)), token.immediate('"""')),
        seq('"', repeat(choice($.escape, $._words, $._braces)), token.immediate('"')),
      ),

    _braces: ($) => choice(token.immediate("{"), token.immediate("}"), $._double),

    prompt: ($) =>
      choice(
        seq(
          '"""',
          repeat(choice($.escape, $.brace, $.placeholder, $._words, $._newline, $._quotes)),
          token.immediate('"""'),
        ),
        seq('"', repeat(choice($.escape, $.brace, $.placeholder, $._words)), token.immediate('"')),
      ),

    _words: () => text(/[^"\\{}\n]+/),

    _newline: () => text(/\n/),

    _quotes: () => choice(token.immediate('"'), token.immediate('""')),

    escape: () => token.immediate(/\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4})/),

    brace: ($) => $._double,

    _double: () => token.immediate(/\{\{|\}\}/),

    placeholder: ($) => seq(token.immediate("{"), field("name", $.slot), token.immediate("}")),

    slot: () => token.immediate(/[A-Za-z_][A-Za-z0-9_]*/),

    name: () => /[A-Za-z_][A-Za-z0-9_]*/,

    number: () => /-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/,

    comment: () => /#[^\n]*/,
  },
});
