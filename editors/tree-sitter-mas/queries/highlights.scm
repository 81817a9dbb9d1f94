(comment) @comment

["mas" "import"] @keyword.import
["model" "param" "agent" "graph" "train" "on"] @keyword
["system" "user" "think" "adapt" "answer" "template" "as" "from"] @keyword
"repeat" @keyword.repeat

(number) @number
[(true) (false)] @boolean

(string) @string
(prompt) @string
(escape) @string.escape
(brace) @string.escape
(placeholder ["{" "}"] @punctuation.special)
(placeholder name: (slot) @variable.parameter)

["->" "<-" "=" ".."] @operator
["," ":"] @punctuation.delimiter
["(" ")" "[" "]" "{" "}"] @punctuation.bracket

(names (name) @variable)
(model name: (name) @module)
(agent model: (name) @module)
(agent name: (name) @type)
(param name: (name) @constant)
(param type: (name) @type.builtin)
(field name: (name) @variable.parameter)
(field type: (name) @type.builtin)
(adapt kind: (name) @function.builtin)
(adapt agent: (name) @type)
(channel kind: (name) @function.builtin)
(call kind: (name) @function.builtin)
(option name: (name) @property)
(pair name: (name) @property)
(setting name: (name) @property)

(graph name: (name) @namespace)
(graph (names (name) @variable.parameter))
(outputs (name) @variable.parameter)
(edge (name) @type)
(group (name) @type)
(lone (name) @type)
(instance name: (name) @type)
(instance template: (name) @function)
(supervise output: (name) @variable.parameter)
(supervise column: (name) @property)
(supervise column: (string) @property)
