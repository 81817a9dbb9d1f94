// Every example is coloured to its end: nothing in it is illegal, and no block or string is left open.

const fs = require("node:fs");
const path = require("node:path");
const oniguruma = require("vscode-oniguruma");
const textmate = require("vscode-textmate");

const HERE = path.join(__dirname, "..");
const EXAMPLES = path.join(HERE, "..", "..", "examples");

async function grammar() {
  const wasm = fs.readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm"));
  await oniguruma.loadWASM(new Uint8Array(wasm).buffer);
  const file = path.join(HERE, "syntaxes", "mas.tmLanguage.json");
  const registry = new textmate.Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
      createOnigString: (text) => new oniguruma.OnigString(text),
    }),
    loadGrammar: async () => textmate.parseRawGrammar(fs.readFileSync(file, "utf8"), file),
  });
  return registry.loadGrammar("source.mas");
}

async function main() {
  const mas = await grammar();
  const files = fs.readdirSync(EXAMPLES, { recursive: true }).filter((name) => name.endsWith(".mas"));
  const problems = [];
  for (const name of files) {
    let stack = textmate.INITIAL;
    const lines = fs.readFileSync(path.join(EXAMPLES, name), "utf8").split("\n");
    lines.forEach((line, at) => {
      const result = mas.tokenizeLine(line, stack);
      stack = result.ruleStack;
      const wrong = result.tokens.filter((token) => token.scopes.some((scope) => scope.startsWith("invalid")));
      problems.push(...wrong.map((token) => `${name}:${at + 1}: ${line.slice(token.startIndex, token.endIndex)}`));
    });
    if (stack.depth !== 1) {
      problems.push(`${name}: something is open at the end`);
    }
  }
  console.log(problems.join("\n") || `${files.length} examples coloured`);
  process.exit(problems.length || !files.length ? 1 : 0);
}

main();
