// Starts `masc lsp` and lets VS Code talk to it.

const { commands, window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function start() {
  const [command, ...args] = workspace.getConfiguration("masc").get("command");
  const documents = [
    { language: "mas", scheme: "file" },
    { language: "mas", scheme: "untitled" },
    { language: "yaml", scheme: "file" },
  ];
  const options = {
    documentSelector: documents,
    synchronize: { fileEvents: workspace.createFileSystemWatcher("**/*.{mas,yaml,yml}") },
  };
  client = new LanguageClient("masc", "masc", { command, args }, options);
  try {
    await client.start();
  } catch (error) {
    const help = 'Install it with `pip install '.[lsp]'` in masc's folder, or say in the setting `masc.command` where it is.';
    window.showErrorMessage(`The masc language server did not start: ${error.message ?? error} ${help}`);
  }
}

async function stop() {
  if (client?.isRunning()) {
    await client.stop();
  }
}

async function activate(context) {
  context.subscriptions.push(
    commands.registerCommand("masc.restart", async () => {
      await stop();
      await start();
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
