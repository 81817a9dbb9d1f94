// The extension's own few decisions, with VS Code and its client replaced by what they are asked for.

const assert = require("node:assert");
const Module = require("node:module");

const made = [];
const shown = [];
const commands = {};
let setting = ["masc", "lsp"];
let broken = false;

class LanguageClient {
  constructor(id, name, server, options) {
    Object.assign(this, { server, options, running: false });
    made.push(this);
  }
  async start() {
    if (broken) {
      throw new Error("spawn masc ENOENT");
    }
    this.running = true;
  }
  async stop() {
    this.running = false;
  }
  isRunning() {
    return this.running;
  }
}

const vscode = {
  commands: { registerCommand: (name, run) => (commands[name] = run) },
  window: { showErrorMessage: (text) => shown.push(text) },
  workspace: {
    getConfiguration: (section) => ({ get: (key) => (section === "masc" && key === "command" ? setting : undefined) }),
    createFileSystemWatcher: (pattern) => pattern,
  },
};

const load = Module._load;
Module._load = (name, ...rest) =>
  ({ vscode, "vscode-languageclient/node": { LanguageClient } })[name] ?? load(name, ...rest);

async function main() {
  const extension = require("../extension.js");
  await extension.activate({ subscriptions: [] });
  assert.deepStrictEqual(made[0].server, { command: "masc", args: ["lsp"] });
  assert(made[0].options.documentSelector.some((document) => document.language === "mas"));
  setting = ["/venv/bin/masc", "lsp"];
  await commands["masc.restart"]();
  assert(!made[0].running && made[1].running, "one server at a time");
  assert.deepStrictEqual(made[1].server, { command: "/venv/bin/masc", args: ["lsp"] });
  broken = true;
  await commands["masc.restart"]();
  assert.match(shown[0], /did not start: spawn masc ENOENT.*pip install '\.\[lsp\]'/);
  await extension.deactivate();
  const described = require("../package.json").contributes.commands.map((command) => command.command);
  assert.deepStrictEqual(described, Object.keys(commands));
  console.log("the extension starts, restarts and says what is wrong");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
